//! Photographs: JPEG, PNG, WebP.

use super::files;
use crate::dice::Dice;
use crate::run::Target;
use crate::spoil::spoil;
use serde_json::json;
use sweeps::spec::model::Data;

const BYTES_MAX: usize = 64 << 10;
const WORDS: &[&[u8]] = &[
    b"\xFF\xD8",
    b"\xFF\xD9",
    b"\xFF\xC0",
    b"\xFF\xC2",
    b"\xFF\xC4",
    b"\xFF\xDA",
    b"\xFF\xDD\0\x04\0\x01",
    b"\xFF\xE1",
    b"Exif\0\0MM\0*",
    b"\xFF\xFF\xFF\xFF",
    b"IHDR",
    b"IDAT",
    b"PLTE",
    b"tRNS",
    b"acTL",
    b"IEND",
    b"iCCP",
    b"zTXt",
    b"eXIf",
    b"RIFF",
    b"WEBP",
    b"VP8 ",
    b"VP8L",
    b"VP8X",
    b"ALPH",
    b"ANIM",
    b"ANMF",
    b"EXIF",
];

struct Images {
    good: Vec<Vec<u8>>,
}

pub(super) fn open() -> Box<dyn Target> {
    Box::new(Images { good: ["jpg", "png", "webp"].iter().flat_map(|ending| files("fuzz/corpus", ending)).collect() })
}

impl Target for Images {
    fn make(&self, dice: &mut Dice) -> Vec<u8> {
        let mut file = dice.pick(&self.good).clone();
        if !dice.one_in(20) {
            let other = dice.pick(&self.good);
            spoil(&mut file, other, WORDS, BYTES_MAX, dice);
        }
        if file.starts_with(b"\x89PNG") && dice.one_in(2) {
            mend_png(&mut file);
        }
        file
    }

    fn take(&mut self, case: &[u8]) -> Result<bool, String> {
        match ::images::decode(case) {
            Ok(image) => {
                let bytes = u64::from(image.width) * u64::from(image.height) * u64::from(image.channels);
                if image.bytes.len() as u64 == bytes && bytes > 0 {
                    shown(case).map(|()| true)
                } else {
                    Err(format!("{} × {} pixels have {} bytes", image.width, image.height, image.bytes.len()))
                }
            }
            Err(reason) if reason.is_empty() => Err("it was refused without a word".to_owned()),
            Err(_) => Ok(false),
        }
    }
}

/// As a stream shows it: the same pixels, whether it is decoded in part or whole.
fn shown(case: &[u8]) -> Result<(), String> {
    let number = case.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
    let data = json!({"format": "image_folder", "train": "t", "validation": {"fraction": 0.5}, "classes": 2,
        "crop": {"area": [0.05, 1.0], "aspect": [0.5, 2.0]}});
    let data: Data = serde_json::from_value(data).map_err(|error| error.to_string())?;
    let show = |whole| {
        let look = |width, height| ::images::augmentation(1, 0, number, width, height, &data);
        ::images::show(case, 8 << (number % 6), &[24, 7], whole, look)
    };
    match (show(false), show(true)) {
        (Ok(part), Ok(whole)) if part == whole => Ok(()),
        (Ok(_), Ok(_)) => Err("a part has other pixels than the whole".to_owned()),
        (part, whole) => Err(format!("decoded, but not shown: {:?}, {:?}", part.err(), whole.err())),
    }
}

/// Gives each chunk the checksum of what it holds now: else nothing behind it is ever looked at.
fn mend_png(file: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = file.get(at..at + 4) {
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let Some(end) = at.checked_add(length).and_then(|end| end.checked_add(8)) else { return };
        let Some(content) = file.get(at + 4..end) else { return };
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let sum = crc.sum().to_be_bytes();
        let Some(place) = file.get_mut(end..end + 4) else { return };
        place.copy_from_slice(&sum);
        at = end + 4;
    }
}
