//! What stands before a JPEG's pixels.

use super::huffman::Table;
use image::metadata::Orientation;

/// Where the coefficients of a block lie, in the order of the file.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// A JPEG of the kind that nearly all photographs are: baseline, one scan, grey or YCbCr.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Header {
    /// As stored, in pixels.
    pub(crate) width: u32,
    /// As stored, in pixels.
    pub(crate) height: u32,
    /// How to turn it upright.
    pub(crate) orientation: Orientation,
    /// Grey; or luma and two of chroma.
    pub(super) components: Components,
    /// MCUs between two restart markers; 0: there are none.
    pub(super) restart_interval: u32,
    /// Where the scan's bytes begin.
    pub(super) scan: usize,
}

/// One, or three.
pub(super) type Components = [Option<Component>; 3];

/// A component.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Component {
    id: u8,
    /// Blocks of an MCU, across and down: 1, 2 or 4.
    pub(super) across: u32,
    pub(super) down: u32,
    quantization: u8,
    pub(super) dc: u8,
    pub(super) ac: u8,
}

/// Tables by their number; those for Huffman codes are kept from one file to the next, which mostly has the same.
#[derive(Clone, Default)]
pub(super) struct Tables {
    pub(super) quantization: [Option<[u16; 64]>; 4],
    pub(super) dc: [Option<Table>; 4],
    pub(super) ac: [Option<Table>; 4],
    /// Which of them the file has.
    given: [[bool; 4]; 2],
}

impl Header {
    /// Blocks of an MCU, across and down.
    pub(super) fn mcu(&self) -> (u32, u32) {
        let most = |of: fn(&Component) -> u32| self.components.iter().flatten().map(of).max().unwrap_or(1);
        (most(|component| component.across), most(|component| component.down))
    }

    /// MCUs across and down.
    pub(super) fn mcus(&self) -> (u32, u32) {
        let (across, down) = self.mcu();
        (self.width.div_ceil(8 * across), self.height.div_ceil(8 * down))
    }

    /// How much smaller than the image a component is, across and down.
    pub(super) fn shrink(&self, component: &Component) -> (u32, u32) {
        let (across, down) = self.mcu();
        (across / component.across, down / component.down)
    }

    /// In pixels, upright.
    pub(crate) fn upright(&self) -> (u32, u32) {
        if super::is_on_its_side(self.orientation) { (self.height, self.width) } else { (self.width, self.height) }
    }
}

/// Reads up to the scan. None: it is of another kind, or damaged.
pub(super) fn read(file: &[u8], tables: &mut Tables) -> Option<Header> {
    if !file.starts_with(&[0xFF, 0xD8]) {
        return None;
    }
    tables.quantization = [None; 4];
    tables.given = Default::default();
    let (mut at, mut frame, mut restart_interval) = (2, None, 0);
    let (mut orientation, mut is_jfif, mut adobe) = (Orientation::NoTransforms, false, None);
    loop {
        let [0xFF, marker] = *file.get(at..)?.first_chunk::<2>()? else { return None };
        if marker == 0xFF {
            at += 1; // a fill byte
            continue;
        }
        let length = usize::from(u16::from_be_bytes(*file.get(at + 2..)?.first_chunk()?));
        let content = file.get(at + 4..at + 2 + length)?;
        at += 2 + length;
        match marker {
            0xC0 | 0xC1 if frame.is_none() => frame = Some(read_frame(content)?),
            0xC4 => read_codes(content, tables)?,
            0xDB => read_quantization(content, tables)?,
            0xDD => restart_interval = u32::from(u16::from_be_bytes(*content.first_chunk()?)),
            0xE0 if content.starts_with(b"JFIF\0") => is_jfif = true,
            0xE1 => {
                // A broken EXIF block does not make the photograph useless.
                if let Some(turned) = content.strip_prefix(b"Exif\0\0").and_then(Orientation::from_exif_chunk) {
                    orientation = turned;
                }
            }
            0xEE if content.starts_with(b"Adobe") => adobe = Some(*content.get(11)?),
            0xE2..=0xEF | 0xE0 | 0xFE => {}
            0xDA => {
                let (width, height, mut components) = frame?;
                read_scan(content, &mut components, tables)?;
                let is_ycc = match adobe {
                    Some(transform) => transform == 1,
                    None => is_jfif || components.map(|of| of.map(|of| of.id)) != b"RGB".map(Some),
                };
                if components[1].is_some() && !is_ycc {
                    return None;
                }
                return Some(Header { width, height, orientation, components, restart_interval, scan: at });
            }
            _ => return None,
        }
    }
}

fn read_frame(content: &[u8]) -> Option<(u32, u32, Components)> {
    let [8, h1, h0, w1, w0, count, rest @ ..] = content else { return None };
    let (height, width) = (u16::from_be_bytes([*h1, *h0]), u16::from_be_bytes([*w1, *w0]));
    let (list, rest) = rest.as_chunks::<3>();
    let mut components = [None; 3];
    for (place, &[id, factors, quantization]) in components.iter_mut().zip(list) {
        let (across, down) = (u32::from(factors >> 4), u32::from(factors & 15));
        *place = Some(Component { id, across, down, quantization, dc: 0, ac: 0 });
    }
    if width == 0 || height == 0 || !rest.is_empty() || list.len() != usize::from(*count) {
        return None;
    }
    match (&mut components, list.len()) {
        // Factors mean nothing where there is nothing to compare with.
        ([Some(grey), None, None], 1) => (grey.across, grey.down) = (1, 1),
        ([Some(luma), Some(blue), Some(red)], 3) => {
            let is_usual = [1, 2, 4].contains(&luma.across) && [1, 2].contains(&luma.down);
            if !is_usual || [blue, red].iter().any(|chroma| (chroma.across, chroma.down) != (1, 1)) {
                return None;
            }
        }
        _ => return None,
    }
    Some((u32::from(width), u32::from(height), components))
}

fn read_scan(content: &[u8], components: &mut Components, tables: &Tables) -> Option<()> {
    let (&count, rest) = content.split_first()?;
    if usize::from(count) != components.iter().flatten().count() {
        return None;
    }
    let (list, rest) = rest.split_at_checked(2 * usize::from(count))?;
    if *rest != [0, 63, 0] {
        return None;
    }
    for (component, &[id, codes]) in components.iter_mut().flatten().zip(list.as_chunks::<2>().0) {
        (component.dc, component.ac) = (codes >> 4, codes & 15);
        let has = |of: &[bool; 4], number: u8| of.get(usize::from(number)).copied().unwrap_or(false);
        let is_whole = has(&tables.given[0], component.dc) && has(&tables.given[1], component.ac);
        let is_quantized = tables.quantization.get(usize::from(component.quantization))?.is_some();
        if id != component.id || !is_whole || !is_quantized {
            return None;
        }
    }
    Some(())
}

fn read_codes(mut content: &[u8], tables: &mut Tables) -> Option<()> {
    while let Some((&which, rest)) = content.split_first() {
        let (class, number) = (usize::from(which >> 4), usize::from(which & 15));
        let (counts, rest) = rest.split_first_chunk::<16>()?;
        let total = counts.iter().map(|count| usize::from(*count)).sum();
        let (symbols, rest) = rest.split_at_checked(total)?;
        let is_dc = class == 0;
        // Of DC, a symbol is only a size.
        if is_dc && symbols.iter().any(|symbol| *symbol > 11) {
            return None;
        }
        let places = if is_dc { &mut tables.dc } else { &mut tables.ac };
        let place = places.get_mut(number)?;
        if !place.as_ref().is_some_and(|table| table.is_of(counts, symbols)) {
            *place = Some(Table::new(*counts, symbols)?);
        }
        *tables.given.get_mut(class)?.get_mut(number)? = true;
        content = rest;
    }
    Some(())
}

fn read_quantization(mut content: &[u8], tables: &mut Tables) -> Option<()> {
    while let Some((&which, rest)) = content.split_first() {
        let mut steps = [0; 64];
        let rest = if which >> 4 == 0 {
            let (list, rest) = rest.split_first_chunk::<64>()?;
            steps.iter_mut().zip(list).for_each(|(step, byte)| *step = u16::from(*byte));
            rest
        } else {
            let (list, rest) = rest.split_first_chunk::<128>()?;
            steps.iter_mut().zip(list.as_chunks().0).for_each(|(step, two)| *step = u16::from_be_bytes(*two));
            rest
        };
        *tables.quantization.get_mut(usize::from(which & 15))? = Some(steps);
        content = rest;
    }
    Some(())
}

impl Tables {
    /// The steps of a component, which its header has checked to be there.
    pub(super) fn steps(&self, component: &Component) -> Option<&[u16; 64]> {
        self.quantization.get(usize::from(component.quantization))?.as_ref()
    }
}
