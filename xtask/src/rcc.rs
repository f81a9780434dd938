//! Reads Qt's binary resource files (`.rcc`): a tree of named files, some of them compressed.
//!
//! The format is that of Qt's `rcc` tool, versions 1 to 3, all numbers big-endian: the magic `qres`, the version, and
//! the offsets of the tree, the data and the names. A node of the tree has the offset of its name and its flags; a
//! folder then the count and index of its children; a file its language and the offset of its data, which begin with
//! their length. A name has its length in UTF-16 units, a hash, and the units.

use std::io::Read;

use anyhow::{Context, Result, bail, ensure};

const FLAG_ZLIB: u16 = 1;
const FLAG_FOLDER: u16 = 2;
const FLAG_ZSTD: u16 = 4;

/// No real file comes near these; a damaged one must not make us loop or fill the memory.
const DEPTH_MAX: usize = 32;
const FILES_MAX: usize = 100_000;
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A file in the tree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its path, parts separated by `/`.
    pub(crate) path: String,
    /// Its content, decompressed.
    pub(crate) content: Vec<u8>,
}

/// Reads every file of a resource file.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Entry>> {
    ensure!(bytes.starts_with(b"qres"), "not a Qt resource file");
    let reader = Reader { bytes, node_size: if u32_at(bytes, 4)? == 1 { 14 } else { 22 } };
    let mut entries = Vec::new();
    reader.walk(0, "", 0, &mut entries)?;
    Ok(entries)
}

struct Reader<'a> {
    bytes: &'a [u8],
    node_size: usize,
}

impl Reader<'_> {
    fn walk(&self, index: usize, path: &str, depth: usize, entries: &mut Vec<Entry>) -> Result<()> {
        ensure!(depth <= DEPTH_MAX, "folders nested deeper than {DEPTH_MAX}");
        ensure!(entries.len() < FILES_MAX, "more than {FILES_MAX} files");
        let node = add(self.offset(8)?, index.checked_mul(self.node_size).context(DAMAGED)?)?;
        let flags = u16_at(self.bytes, add(node, 4)?)?;
        if flags & FLAG_FOLDER != 0 {
            let count = self.offset(add(node, 6)?)?;
            let first = self.offset(add(node, 10)?)?;
            for child in first..add(first, count)? {
                let start = add(self.offset(8)?, child.checked_mul(self.node_size).context(DAMAGED)?)?;
                let name = self.name(self.offset(start)?)?;
                let below = if path.is_empty() { name } else { format!("{path}/{name}") };
                self.walk(child, &below, depth + 1, entries)?;
            }
        } else {
            let content = self.content(self.offset(add(node, 10)?)?, flags);
            entries.push(Entry { path: path.to_owned(), content: content.with_context(|| path.to_owned())? });
        }
        Ok(())
    }

    /// A number of the file that is an offset or a count.
    fn offset(&self, at: usize) -> Result<usize> {
        Ok(usize::try_from(u32_at(self.bytes, at)?)?)
    }

    fn name(&self, offset: usize) -> Result<String> {
        let at = add(self.offset(16)?, offset)?;
        let length = usize::from(u16_at(self.bytes, at)?);
        let units = slice(self.bytes, add(at, 6)?, 2 * length)?;
        let units: Vec<u16> = units.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        let name = String::from_utf16(&units).context("a name is not UTF-16")?;
        ensure!(!name.contains(['/', '\0']) && name != ".." && name != ".", "a name that is a path: {name:?}");
        Ok(name)
    }

    fn content(&self, offset: usize, flags: u16) -> Result<Vec<u8>> {
        let at = add(self.offset(12)?, offset)?;
        let raw = slice(self.bytes, add(at, 4)?, self.offset(at)?)?;
        if flags & FLAG_ZSTD != 0 {
            bail!("compressed with zstd, which is not read here");
        }
        if flags & FLAG_ZLIB == 0 {
            return Ok(raw.to_vec());
        }
        // The length when decompressed, then a zlib stream.
        let length = u64::from(u32_at(raw, 0)?);
        ensure!(length <= FILE_BYTES_MAX, "a file of {length} bytes");
        let mut content = Vec::new();
        flate2::read::ZlibDecoder::new(&raw[4..]).take(length + 1).read_to_end(&mut content)?;
        ensure!(content.len() as u64 == length, "{} bytes after decompression, expected {length}", content.len());
        Ok(content)
    }
}

const DAMAGED: &str = "the resource file is cut off or damaged";

fn add(a: usize, b: usize) -> Result<usize> {
    a.checked_add(b).context(DAMAGED)
}

fn slice(bytes: &[u8], at: usize, length: usize) -> Result<&[u8]> {
    bytes.get(at..add(at, length)?).context(DAMAGED)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_be_bytes(slice(bytes, at, 4)?.try_into()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_be_bytes(slice(bytes, at, 2)?.try_into()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A resource file with `a/plain.txt` and `a/packed.txt`, put together by hand after the format.
    fn sample() -> Vec<u8> {
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(b"squeezed").unwrap();
        let packed = [8_u32.to_be_bytes().to_vec(), packed.finish().unwrap()].concat();
        let mut data = Vec::new();
        data.extend(5_u32.to_be_bytes());
        data.extend(b"as is");
        let packed_at = u32::try_from(data.len()).unwrap();
        data.extend(u32::try_from(packed.len()).unwrap().to_be_bytes());
        data.extend(packed);
        let mut names = Vec::new();
        let mut name_at = Vec::new();
        for name in ["a", "plain.txt", "packed.txt"] {
            name_at.push(u32::try_from(names.len()).unwrap());
            names.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
            names.extend([0; 4]);
            names.extend(name.encode_utf16().flat_map(u16::to_be_bytes));
        }
        let mut tree = Vec::new();
        let mut node = |name: u32, flags: u16, first: u32, second: u32| {
            tree.extend(name.to_be_bytes());
            tree.extend(flags.to_be_bytes());
            tree.extend(first.to_be_bytes());
            tree.extend(second.to_be_bytes());
            tree.extend([0; 8]);
        };
        node(0, FLAG_FOLDER, 1, 1);
        node(name_at[0], FLAG_FOLDER, 2, 2);
        node(name_at[1], 0, 0, 0);
        node(name_at[2], FLAG_ZLIB, 0, packed_at);
        let (tree_at, data_at) = (20, 20 + tree.len());
        let offsets =
            [3, tree_at, data_at, data_at + data.len()].map(|offset| u32::try_from(offset).unwrap().to_be_bytes());
        [b"qres".to_vec(), offsets.concat(), tree, data, names].concat()
    }

    #[test]
    fn plain_and_compressed_files_are_read() {
        let entry = |path: &str, content: &str| Entry { path: path.into(), content: content.into() };
        assert_eq!(read(&sample()).unwrap(), [entry("a/plain.txt", "as is"), entry("a/packed.txt", "squeezed")]);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_nothing_worse() {
        let whole = sample();
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "cut off after {length} bytes");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            // Some bytes do not matter (hashes, languages); none may panic or run away.
            let _ = read(&changed);
        }
        let mut looping = whole;
        looping[20 + 22 + 13] = 1;
        assert!(read(&looping).unwrap_err().to_string().contains("nested deeper"));
    }
}
