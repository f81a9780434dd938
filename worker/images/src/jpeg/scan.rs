//! The scan: from bits to coefficients to pixels.

use super::NotOurs;
use super::header::{Header, Tables};
use super::huffman::{Bits, END, PADDING, Table};
use super::idct::{self, Block, Steps};
use super::planes::{Plane, Planes, Region};
use super::stops::{Notes, Stops};

/// What a component needs to be decoded.
#[derive(Clone)]
struct Coder<'a> {
    dc: &'a Table,
    ac: &'a Table,
    steps: Steps,
    /// The last block's first coefficient.
    last: i32,
    across: u32,
    down: u32,
}

/// What is kept from one file to the next.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// A restart interval without its stuffing.
    interval: Vec<u8>,
    pub(super) notes: Notes,
}

/// Decodes the region. Of a file that was read before (`known`) no more than that is read; otherwise all, and noted.
pub(super) fn decode(
    file: &[u8],
    header: &Header,
    tables: &Tables,
    region: &Region,
    known: Option<&Stops>,
    room: &mut Room,
    planes: &mut Planes,
) -> Result<(), NotOurs> {
    let side = region.side as usize;
    let mut coders = coders(header, tables, side).ok_or(NotOurs)?;
    let coders = coders.get_mut(..header.components.iter().flatten().count()).ok_or(NotOurs)?;
    let (mcus_across, mcus_down) = header.mcus();
    let mcus = mcus_across.checked_mul(mcus_down).ok_or(NotOurs)?;
    let rest = file.get(header.scan..).unwrap_or_default();
    // A block takes two bits at least: a small file cannot claim to be a large image.
    let blocks: u64 = coders.iter().map(|coder| u64::from(coder.across * coder.down)).sum();
    if u64::from(mcus) * blocks > rest.len() as u64 * 4 {
        return Err(NotOurs);
    }
    planes.0.resize_with(coders.len(), Plane::default);
    for (plane, component) in planes.0.iter_mut().zip(header.components.iter().flatten()) {
        plane.prepare(header, component, region);
    }
    let known = known.filter(|known| known.is_of(file));
    room.notes.begin(mcus);
    if known.is_some() || header.restart_interval > 0 {
        room.notes.end();
    }
    read(Scan { header, region, known, rest, room, coders }, planes).ok_or(NotOurs)
}

/// What is to be read.
struct Scan<'a> {
    header: &'a Header,
    region: &'a Region,
    known: Option<&'a Stops>,
    rest: &'a [u8],
    room: &'a mut Room,
    coders: &'a mut [Coder<'a>],
}

fn read(scan: Scan<'_>, planes: &mut Planes) -> Option<()> {
    #[cfg(target_arch = "x86_64")]
    if idct::is_fast() && is_x86_feature_detected!("bmi2") {
        #[target_feature(enable = "avx2,bmi2")]
        fn fast(scan: Scan<'_>, planes: &mut Planes) -> Option<()> {
            read_plain(scan, planes, true)
        }
        #[expect(unsafe_code, reason = "AVX2")]
        // SAFETY: the processor was just asked for AVX2 and BMI2.
        return unsafe { fast(scan, planes) };
    }
    read_plain(scan, planes, false)
}

#[inline(always)]
fn read_plain(scan: Scan<'_>, planes: &mut Planes, fast: bool) -> Option<()> {
    let Scan { header, region, known, rest, room: Room { interval, notes }, coders } = scan;
    let side = region.side as usize;
    let (mcus_across, mcus_down) = header.mcus();
    let mut rest = unstuff(rest, interval);
    let mut bits = Bits::new(interval);
    let mut until_restart = header.restart_interval;
    let mut block = Block::BLANK;
    // MCUs that are behind.
    let mut at = 0;
    let rows = if known.is_some() { region.down.clone() } else { 0..mcus_down };
    for row in rows {
        let (row_start, row_end) = (row * mcus_across, (row + 1) * mcus_across);
        let wanted = match region.down.contains(&row) {
            true => row_start + region.across.start..row_start + region.across.end,
            false => row_end..row_end,
        };
        if let Some((mcu, stop)) = known.and_then(|known| known.before(wanted.start)).filter(|(mcu, _)| *mcu > at) {
            at = mcu;
            bits.seek(stop.bit as usize);
            coders.iter_mut().zip(stop.last).for_each(|(coder, last)| coder.last = i32::from(last));
        }
        let end = if known.is_some() { wanted.end } else { row_end };
        while at < end {
            if notes.is_due(at) {
                notes.note(bits.place(), coders.iter().map(|coder| coder.last));
            }
            if header.restart_interval > 0 {
                if until_restart == 0 {
                    if bits.is_over() {
                        return None;
                    }
                    rest = unstuff(after_restart(rest)?, interval);
                    bits = Bits::new(interval);
                    for coder in coders.iter_mut() {
                        coder.last = 0;
                    }
                    until_restart = header.restart_interval;
                }
                until_restart -= 1;
            }
            let mcu = at;
            at += 1;
            if !wanted.contains(&mcu) {
                for coder in coders.iter_mut() {
                    for _ in 0..coder.across * coder.down {
                        coder.last = coder.last.wrapping_add(bits.difference(coder.dc)?);
                        bits.coefficients::<false>(coder.ac, &mut block)?;
                    }
                }
                continue;
            }
            let (mcu_x, mcu_y) = ((mcu - wanted.start) as usize, (row - region.down.start) as usize);
            for (coder, plane) in coders.iter_mut().zip(&mut planes.0) {
                let (across, down) = (coder.across as usize, coder.down as usize);
                for y in 0..down {
                    for x in 0..across {
                        coder.last = coder.last.wrapping_add(bits.difference(coder.dc)?);
                        block.begin(coder.last as f32 * coder.steps.0[0]);
                        let end = bits.coefficients::<true>(coder.ac, &mut block)?;
                        let columns = match (end, side) {
                            (END, _) => idct::flat(&block),
                            (_, 8) => idct::whole(&block, &coder.steps, fast),
                            (_, _) => idct::small(&block, &coder.steps, side),
                        };
                        let at = (mcu_x * across + x) * side * plane.stride + (mcu_y * down + y) * side;
                        put(&columns, side, &mut plane.bytes, at, plane.stride)?;
                    }
                }
            }
        }
        if bits.is_over() {
            return None;
        }
    }
    Some(())
}

/// For each component; of a grey image three times the same.
fn coders<'a>(header: &Header, tables: &'a Tables, side: usize) -> Option<[Coder<'a>; 3]> {
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
    let [luma, blue, red] = &header.components;
    let luma = coder(luma.as_ref()?)?;
    let or_luma = |component: &Option<_>| component.as_ref().map_or_else(|| Some(luma.clone()), coder);
    let (blue, red) = (or_luma(blue)?, or_luma(red)?);
    Some([luma, blue, red])
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
