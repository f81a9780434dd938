//! Lines of a pipe that anybody may write to: bounded, whatever comes.

use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

/// Reads lines; what is longer than the bound is cut off, the rest of such a line is read and dropped.
#[derive(Debug)]
pub struct Lines<R> {
    pipe: BufReader<R>,
    bytes_max: usize,
}

impl<R: tokio::io::AsyncRead + Unpin> Lines<R> {
    /// Of a pipe.
    pub fn new(pipe: R, bytes_max: usize) -> Self {
        Self { pipe: BufReader::with_capacity(64 * 1024, pipe), bytes_max }
    }

    /// The next line without its end; `None` at the end of the pipe, or when it breaks.
    pub async fn next(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let ended = read_line(&mut self.pipe, &mut line, self.bytes_max).await?;
        if !ended && line.is_empty() {
            return None;
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Some(String::from_utf8_lossy(&line).into_owned())
    }
}

/// Whether the line had an end; `None` when nothing is left.
async fn read_line(pipe: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>, bytes_max: usize) -> Option<bool> {
    loop {
        let buffer = pipe.fill_buf().await.ok()?;
        if buffer.is_empty() {
            return (!line.is_empty()).then_some(false);
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        let room = bytes_max.saturating_sub(line.len()).min(part.len());
        line.extend_from_slice(&part[..room]);
        let used = part.len() + usize::from(end.is_some());
        pipe.consume(used);
        if end.is_some() {
            return Some(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_whole_cut_or_without_an_end() {
        async fn check(input: &[u8], expected: &[&str]) {
            let mut lines = Lines::new(input, 8);
            let mut got = Vec::new();
            while let Some(line) = lines.next().await {
                got.push(line);
            }
            assert_eq!(got, expected, "{input:?}");
        }
        check(b"", &[]).await;
        check(b"one\ntwo\n", &["one", "two"]).await;
        check(b"one\r\n\ntwo", &["one", "", "two"]).await;
        check(b"123456789abc\nnext\n", &["12345678", "next"]).await;
        check(b"\xff\xfe\n", &["\u{fffd}\u{fffd}"]).await;
    }
}
