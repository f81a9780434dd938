//! The scan: from bits to coefficients to pixels.

use super::NotOurs;
use super::header::{Header, Tables, ZIGZAG};
use super::huffman::{Bits, PADDING, Table};
use super::idct::{self, Block};
use super::planes::{Plane, Planes, Region};

/// What a component needs to be decoded.
struct Coder<'a> {
    dc: &'a Table,
    ac: &'a Table,
    steps: [f32; 64],
    /// The last block's first coefficient.
    last: i32,
    across: u32,
    down: u32,
}

/// Decodes the region, and if so wanted reads on to the end.
pub(super) fn decode(
    file: &[u8],
    header: &Header,
    tables: &Tables,
    region: &Region,
    whole_scan: bool,
    interval: &mut Vec<u8>,
    planes: &mut Planes,
) -> Result<(), NotOurs> {
    let side = region.side as usize;
    let mut coders = coders(header, tables, side).ok_or(NotOurs)?;
    let (mcus_across, mcus_down) = header.mcus();
    let mut rest = file.get(header.scan..).unwrap_or_default();
    // A block takes two bits at least: a small file cannot claim to be a large image.
    let blocks: u64 = coders.iter().map(|coder| u64::from(coder.across * coder.down)).sum();
    if u64::from(mcus_across) * u64::from(mcus_down) * blocks > rest.len() as u64 * 4 {
        return Err(NotOurs);
    }
    planes.0.resize_with(coders.len(), Plane::default);
    for (plane, component) in planes.0.iter_mut().zip(&header.components) {
        plane.prepare(header, component, region);
    }
    let fast = idct::is_fast();
    rest = unstuff(rest, interval);
    let mut bits = Bits::new(interval);
    let mut until_restart = header.restart_interval;
    let mut block = Block([0.0; 64]);
    let rows = if whole_scan { mcus_down } else { region.down.end };
    for row in 0..rows {
        for column in 0..mcus_across {
            if header.restart_interval > 0 {
                if until_restart == 0 {
                    if bits.is_over() {
                        return Err(NotOurs);
                    }
                    rest = unstuff(after_restart(rest).ok_or(NotOurs)?, interval);
                    bits = Bits::new(interval);
                    coders.iter_mut().for_each(|coder| coder.last = 0);
                    until_restart = header.restart_interval;
                }
                until_restart -= 1;
            }
            if !region.down.contains(&row) || !region.across.contains(&column) {
                for coder in &mut coders {
                    for _ in 0..coder.across * coder.down {
                        pass_over(&mut bits, coder).ok_or(NotOurs)?;
                    }
                }
                continue;
            }
            let (mcu_x, mcu_y) = ((column - region.across.start) as usize, (row - region.down.start) as usize);
            for (coder, plane) in coders.iter_mut().zip(&mut planes.0) {
                let (across, down) = (coder.across as usize, coder.down as usize);
                for y in 0..down {
                    for x in 0..across {
                        let last = read(&mut bits, coder, &mut block).ok_or(NotOurs)?;
                        let columns = match (last, side) {
                            (0, _) => idct::flat(&block),
                            (_, 8) => idct::whole(&block, fast),
                            (_, _) => idct::small(&block, side),
                        };
                        let at = (mcu_x * across + x) * side * plane.stride + (mcu_y * down + y) * side;
                        put(&columns, side, &mut plane.bytes, at, plane.stride).ok_or(NotOurs)?;
                    }
                }
            }
        }
        if bits.is_over() {
            return Err(NotOurs);
        }
    }
    Ok(())
}

fn coders<'a>(header: &Header, tables: &'a Tables, side: usize) -> Option<Vec<Coder<'a>>> {
    let coder = |component: &super::header::Component| {
        Some(Coder {
            dc: tables.dc.get(usize::from(component.dc))?.as_ref()?,
            ac: tables.ac.get(usize::from(component.ac))?.as_ref()?,
            steps: idct::steps(tables.steps(component)?, side),
            last: 0,
            across: component.across,
            down: component.down,
        })
    };
    header.components.iter().map(coder).collect()
}

/// Takes the stuffing out of what comes before the next marker, which the rest begins with.
fn unstuff<'a>(mut bytes: &'a [u8], interval: &mut Vec<u8>) -> &'a [u8] {
    interval.clear();
    loop {
        let end = memchr::memchr(0xFF, bytes).unwrap_or(bytes.len());
        let (plain, rest) = bytes.split_at(end);
        interval.extend_from_slice(plain);
        match rest {
            [0xFF, 0, after @ ..] => {
                interval.push(0xFF);
                bytes = after;
            }
            // A fill byte.
            [0xFF, after @ ..] if after.first() == Some(&0xFF) => bytes = after,
            _ => {
                interval.extend_from_slice(&[0; PADDING]);
                return rest;
            }
        }
    }
}

fn after_restart(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        [0xFF, 0xD0..=0xD7, after @ ..] => Some(after),
        _ => None,
    }
}

/// Reads a block. The last coefficient that is not 0, in the order of the file.
#[inline(always)]
fn read(bits: &mut Bits<'_>, coder: &mut Coder<'_>, block: &mut Block) -> Option<usize> {
    block.0 = [0.0; 64];
    let (_, difference) = bits.next(coder.dc)?;
    coder.last = coder.last.wrapping_add(difference);
    block.0[0] = coder.last as f32 * coder.steps[0];
    let (mut at, mut last) = (1, 0);
    while at < 64 {
        let (symbol, value) = bits.next(coder.ac)?;
        if value == 0 {
            match symbol {
                0 => break,
                0xF0 => at += 16,
                _ => return None,
            }
            continue;
        }
        at += usize::from(symbol >> 4);
        let (place, step) = (ZIGZAG.get(at)?, coder.steps.get(at)?);
        block.0[usize::from(*place & 63)] = value as f32 * step;
        last = at;
        at += 1;
    }
    (at <= 64).then_some(last)
}

/// Reads a block whose pixels are not wanted.
#[inline(always)]
fn pass_over(bits: &mut Bits<'_>, coder: &mut Coder<'_>) -> Option<()> {
    let (_, difference) = bits.next(coder.dc)?;
    coder.last = coder.last.wrapping_add(difference);
    let mut at = 1;
    while at < 64 {
        let (symbol, _) = bits.next(coder.ac)?;
        match symbol {
            0 => break,
            0xF0 => at += 16,
            _ if symbol & 15 == 0 => return None,
            _ => at += usize::from(symbol >> 4) + 1,
        }
    }
    (at <= 64).then_some(())
}

/// Puts a block in its place.
#[inline(always)]
fn put(columns: &idct::Columns, side: usize, bytes: &mut [u8], at: usize, stride: usize) -> Option<()> {
    for (x, column) in columns.iter().enumerate().take(side) {
        let place = bytes.get_mut(at + x * stride..)?;
        if side == 8 {
            *place.first_chunk_mut::<8>()? = *column;
        } else {
            place.get_mut(..side)?.copy_from_slice(&column[..side]);
        }
    }
    Some(())
}
