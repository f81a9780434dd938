//! A data set, opened, checked and split; its pixels are read when they are asked for.

use super::cache::{Budget, Cache, Picture};
use super::decode::{decode, usual_jpeg};
use super::draw::Augmentation;
use super::error::DataError;
use super::files::FileBuffer;
use super::jpeg::{Region, STOPS_BYTES_MAX, Stops};
use super::render::{Plan, Renderer, Targets};
use super::sources::{self, Found, Store};
use proto::link::DataPlaces;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use sweeps::spec::model::Data;

/// How many bytes of decoded image files are kept in memory, unless told otherwise: 1 GiB.
pub const CACHE_BYTES: u64 = 1 << 30;

/// How many bytes of image files are read into memory where they cannot be read one by one, unless told otherwise: 4 GiB.
pub const ENCODED_BYTES_MAX: u64 = 4 << 30;

/// Images by which it is measured how many fit into memory.
const MEASURED_IMAGES: usize = 32;

/// Images to train on and to validate with.
#[derive(Debug)]
pub struct Dataset {
    /// As the sweep says.
    pub settings: Data,
    /// To train on; not empty, every class is there.
    pub train: Set,
    /// To validate with; not empty.
    pub validation: Set,
    /// By label.
    pub class_names: Vec<String>,
    /// Hexadecimal SHA-256 over names, sizes and labels (over pixels where they are in one file; over a pack's index), in
    /// order, and which set each is in. The same data has the same fingerprint on every worker, wherever it lies.
    pub fingerprint: String,
    /// What a user may want to know: files left out, classes without validation images. One line each.
    pub notes: Vec<String>,
    budget: Budget,
    /// For ways into files, which save more for each byte than decoded images do.
    budget_of_stops: Budget,
    /// Broken images so far, with what is wrong; the count is over the whole life of the data set.
    broken: Mutex<BTreeMap<(Side, u32), String>>,
}

/// Which set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// To train on.
    Train,
    /// To validate with.
    Validation,
}

/// Samples in the order of their indices.
#[derive(Debug)]
pub struct Set {
    /// Labels and names.
    pub samples: Vec<Sample>,
    store: Store,
    /// Decoded files, by index; empty where all pixels are in memory already.
    cache: Cache,
    /// Of files that were once decoded to their end. From then on only as much is read of them as is looked at.
    known: Vec<OnceLock<Stops>>,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Path relative to the set's folder with `/` between parts; or the file of many images and the image's name or
    /// number in it.
    pub name: String,
    /// From 0.
    pub label: u32,
    /// Of the file; of the pixels where they are in one file.
    pub bytes: u64,
    /// Where its pixels lie in a file of many images.
    pub(super) slot: u32,
}

impl Set {
    pub(super) fn new(samples: Vec<Sample>, store: Store) -> Self {
        let cached = if store.is_encoded() { samples.len() } else { 0 };
        let known = std::iter::repeat_with(OnceLock::default).take(cached).collect();
        Self { samples, store, cache: Cache::new(cached), known }
    }
}

impl Dataset {
    /// Lists the images, checks them against the settings, and splits them. Image files are not opened yet;
    /// [`CACHE_BYTES`] of them are kept once decoded.
    ///
    /// # Errors
    /// Whatever makes the data unusable; see [`DataError`].
    pub fn open(settings: &Data, places: &DataPlaces) -> Result<Self, DataError> {
        Self::open_with(settings, places, CACHE_BYTES, ENCODED_BYTES_MAX)
    }

    /// [`Dataset::open`] with another limit for decoded files kept in memory.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn open_with_cache(settings: &Data, places: &DataPlaces, cache_bytes: u64) -> Result<Self, DataError> {
        Self::open_with(settings, places, cache_bytes, ENCODED_BYTES_MAX)
    }

    /// [`Dataset::open`] with other limits: for decoded files kept in memory, and for image files read into memory (parquet),
    /// which take from the first.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn open_with(
        settings: &Data,
        places: &DataPlaces,
        cache_bytes: u64,
        encoded_bytes: u64,
    ) -> Result<Self, DataError> {
        let Found { train, validation, class_names, notes, fingerprint } =
            sources::find(settings, places, encoded_bytes)?;
        let in_memory = train.store.bytes_in_memory() + validation.store.bytes_in_memory();
        let free = cache_bytes.saturating_sub(in_memory);
        let for_stops = free.min((train.known.len() + validation.known.len()) as u64 * STOPS_BYTES_MAX);
        Ok(Self {
            settings: settings.clone(),
            train,
            validation,
            class_names,
            fingerprint,
            notes,
            budget: Budget::new(free - for_stops),
            budget_of_stops: Budget::new(for_stops),
            broken: Mutex::default(),
        })
    }

    /// How far memory reaches for the images once they are decoded, measured on a few of them; none where nothing is
    /// decoded. A sentence for people.
    #[must_use]
    pub fn memory_note(&self) -> Option<String> {
        let count = self.train.samples.len() + self.validation.samples.len();
        let is_decoded = self.train.store.is_encoded();
        let sizes: Vec<u64> = if is_decoded { self.train.decoded_sizes().collect() } else { Vec::new() };
        let mean = sizes.iter().sum::<u64>().checked_div(sizes.len() as u64).filter(|mean| *mean > 0)?;
        let (fits, limit) = (self.budget.left() / mean, gibibytes(self.budget.left()));
        let kib = mean.div_ceil(1024);
        Some(if fits >= count as u64 {
            let all = gibibytes(mean * count as u64);
            format!("all {count} images are kept in memory once they are decoded: {kib} KiB each, {all} of {limit} GiB")
        } else {
            format!(
                "about {fits} of {count} images are kept in memory once they are decoded: {kib} KiB each, in {limit} GiB; \
                 the others are decoded in each epoch"
            )
        })
    }

    /// One of the two sets.
    #[must_use]
    pub fn set(&self, side: Side) -> &Set {
        match side {
            Side::Train => &self.train,
            Side::Validation => &self.validation,
        }
    }

    /// How many different images were found to be broken until now.
    #[must_use]
    pub fn broken_count(&self) -> usize {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Notes a broken image. Whether it is new.
    pub(super) fn note_broken(&self, side: Side, index: u32, reason: &str) -> Result<bool, DataError> {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        let new = broken.insert((side, index), reason.to_owned()).is_none();
        let max = self.settings.broken_images_max;
        if broken.len() > max as usize {
            let name = self.set(side).path(index);
            return Err(DataError::TooManyBroken { broken: broken.len(), max, name, reason: reason.to_owned() });
        }
        Ok(new)
    }

    /// Puts an image into its place in each resolution's buffer. `look_of`: by the upright image's width and height.
    /// What is put there does not depend on what is kept in memory. The error says what is wrong with the image, without its name.
    pub(super) fn draw(
        &self,
        side: Side,
        index: u32,
        look_of: impl Fn(u32, u32) -> Augmentation,
        renderer: &mut Renderer,
        targets: &mut Targets<'_>,
    ) -> Result<(), String> {
        let set = self.set(side);
        let at = index as usize;
        let sample = set.samples.get(at).ok_or_else(|| format!("there is no sample {index}"))?;
        if let Some(view) = set.store.view(sample)? {
            return renderer.pixels(view, &look_of(view.width, view.height), targets);
        }
        match set.cache.get(at) {
            Some(Picture::Pixels(image)) => {
                return renderer.pixels(image.view(), &look_of(image.width, image.height), targets);
            }
            Some(Picture::Planes(header, planes)) => {
                let plan = Plan::new(header, targets, &look_of);
                if plan.region.is_full_size() {
                    return renderer.planes(planes, header, &plan, targets);
                }
            }
            None => {}
        }
        let mut file = std::mem::take(&mut renderer.file);
        let bytes = set.store.read(sample, &mut file);
        let drawn = bytes.and_then(|bytes| self.draw_file(set, at, bytes, look_of, renderer, targets));
        renderer.file = file;
        drawn
    }

    fn draw_file(
        &self,
        set: &Set,
        at: usize,
        file: &[u8],
        look_of: impl Fn(u32, u32) -> Augmentation,
        renderer: &mut Renderer,
        targets: &mut Targets<'_>,
    ) -> Result<(), String> {
        if let Some(header) = usual_jpeg(renderer, file) {
            let plan = Plan::new(&header, targets, &look_of);
            let known = set.known.get(at).and_then(OnceLock::get);
            let whole = Region::whole(&header);
            let bytes = whole.bytes(&header);
            let keeps = plan.region.is_full_size() && set.cache.get(at).is_none() && self.budget.take(bytes);
            let region = if keeps { &whole } else { &plan.region };
            let drawn = renderer.jpeg(file, &header, &plan, (region, known), targets);
            if keeps && drawn == Ok(Ok(())) {
                let planes = renderer.jpeg.take_planes();
                set.cache.keep(at, Picture::Planes(Box::new(header), planes), bytes, &self.budget);
            } else if keeps {
                self.budget.give(bytes);
            }
            if let Ok(drawn) = drawn {
                if known.is_none() {
                    self.note_known(set, at, renderer.jpeg.stops(file));
                }
                return drawn;
            }
        }
        let image = decode(file)?;
        renderer.pixels(image.view(), &look_of(image.width, image.height), targets)?;
        let bytes = image.bytes.len() as u64;
        // What does not fit is decoded again next time.
        if self.budget.take(bytes) {
            set.cache.keep(at, Picture::Pixels(image), bytes, &self.budget);
        }
        Ok(())
    }

    fn note_known(&self, set: &Set, at: usize, stops: Stops) {
        let stops = if self.budget_of_stops.take(stops.bytes()) { stops } else { stops.without_places() };
        // If another thread was faster, it found the same.
        if let Some(Err(stops)) = set.known.get(at).map(|known| known.set(stops)) {
            self.budget_of_stops.give(stops.bytes());
        }
    }
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 30))
}

impl Set {
    /// What some images take when they are decoded and kept; those that cannot be read are passed over.
    fn decoded_sizes(&self) -> impl Iterator<Item = u64> {
        let step = self.samples.len().div_ceil(MEASURED_IMAGES).max(1);
        let (mut renderer, mut buffer) = (Renderer::default(), FileBuffer::default());
        self.samples.iter().step_by(step).filter_map(move |sample| {
            let file = self.store.read(sample, &mut buffer).ok()?;
            match usual_jpeg(&mut renderer, file) {
                Some(header) => Some(Region::whole(&header).bytes(&header)),
                None => Some(decode(file).ok()?.bytes.len() as u64),
            }
        })
    }

    /// Where a sample lies, for people.
    #[must_use]
    pub fn path(&self, index: u32) -> String {
        self.samples.get(index as usize).map_or_else(|| "?".to_owned(), |sample| self.store.path(sample))
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Labels that occur.
    pub(super) fn labels(&self) -> BTreeSet<u32> {
        self.samples.iter().map(|sample| sample.label).collect()
    }

    /// The files that the samples are read from.
    pub(super) fn files(&self) -> BTreeSet<PathBuf> {
        self.store.files(&self.samples)
    }
}
