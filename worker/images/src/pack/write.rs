//! Making a pack: images are read and converted by several threads, and written in the order of the source.

use super::convert::{Bytes, Converter};
use super::layout::{Image, Index, Kind, Place};
use super::partial::{Partial, Record};
use super::read::{PackSummary, show_pack};
use crate::error::DataError;
use crate::sources::{Listing, Rows, Store, fingerprint, list};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use sweeps::spec::model::Format;

/// Images of each thread that may be on their way: with few a slow one holds up the others.
const AHEAD: usize = 4;

/// What to pack, and how.
#[derive(Clone, Debug)]
pub struct PackOptions {
    /// Of the source.
    pub format: Format,
    /// How many classes; may be missing where the source names them.
    pub classes: Option<u32>,
    /// Images whose shorter side is longer are shrunk to it.
    pub size: Option<u32>,
    /// As what images are stored.
    pub form: PackForm,
    /// That read, decode and encode; at least one.
    pub threads: usize,
    /// More broken images than this are an error.
    pub broken_max: u32,
    /// Replace a pack that is there, and give up one that was begun from something else.
    pub force: bool,
}

/// As what images are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackForm {
    /// As the files that they are; what is shrunk, as JPEG.
    Files {
        /// Of the JPEG, 1 to 100.
        quality: u8,
    },
    /// As pixels, which need no decoding.
    Raw,
}

/// What happens while a pack is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackEvent<'a> {
    /// The source is known, and so many of its images are packed already.
    Begun {
        /// From before an interruption.
        done: u64,
        /// Of the source.
        total: u64,
    },
    /// An image is packed.
    Packed {
        /// Until now.
        done: u64,
        /// Of the source.
        total: u64,
        /// Of it in the pack.
        bytes: u64,
    },
    /// An image is broken and left out.
    LeftOut {
        /// Where it lies.
        path: &'a str,
        /// What is wrong with it.
        reason: &'a str,
    },
}

/// How packing ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackOutcome {
    /// The pack is there.
    Finished(PackSummary),
    /// `watch` broke it off; the same call goes on.
    Stopped {
        /// Until now.
        done: u64,
        /// Of the source.
        total: u64,
    },
}

/// Packs a source into the file `out`. It is written as `OUT.partial`, and the same call goes on where an earlier one ended,
/// however it did. The same source and options give the same bytes, whatever the threads and interruptions. `watch` hears
/// what happens, and breaks it off.
///
/// # Errors
/// The source cannot be used, too much of it is broken, or the pack cannot be written.
pub fn pack(
    source: &Path,
    out: &Path,
    options: &PackOptions,
    watch: &mut dyn FnMut(PackEvent<'_>) -> ControlFlow<()>,
) -> Result<PackOutcome, DataError> {
    if out.exists() && !options.force {
        let problem = "it is there already; --force replaces it, --check says whether it is whole";
        return Err(DataError::malformed(out.display().to_string(), problem));
    }
    let (listing, mut rows) = list(options.format, options.classes, source, None)?;
    if listing.samples.is_empty() {
        return Err(DataError::NoImages { place: source.display().to_string(), hint: String::new() });
    }
    let about = about(options);
    let plan = plan(&listing, &about);
    let (partial, places) = Partial::open(out, plan, options.force)?;
    if places.len() > listing.samples.len() {
        let problem = "it holds more images than the source; delete the .partial file";
        return Err(DataError::malformed(out.display().to_string(), problem));
    }
    let total = listing.samples.len() as u64;
    let mut packing = Packing { source, listing: &listing, options, partial, places, left_out: Vec::new() };
    packing.take_up_left_out()?;
    if watch(PackEvent::Begun { done: packing.places.len() as u64, total }).is_continue() {
        if let Some(rows) = &mut rows {
            rows.skip(packing.places.len())?;
        }
        packing.run(&mut rows, watch)?;
    }
    packing.partial.flush()?;
    let done = packing.places.len() as u64;
    if done < total {
        return Ok(PackOutcome::Stopped { done, total });
    }
    let Packing { partial, places, left_out, .. } = packing;
    let index = index(&listing, about, &places, left_out);
    if index.images.is_empty() {
        return Err(DataError::NoImages { place: source.display().to_string(), hint: " that are not broken".into() });
    }
    partial.finish(&index, out)?;
    show_pack(out).map(PackOutcome::Finished)
}

/// For people, and part of the plan.
fn about(options: &PackOptions) -> String {
    // As the sweep file has it.
    let format = serde_json::to_value(options.format).ok();
    let format = format.as_ref().and_then(|name| name.as_str()).unwrap_or("?");
    let size = options.size.map_or_else(String::new, |size| format!(", shorter sides of at most {size}"));
    match (options.form, options.size) {
        (PackForm::Raw, _) => format!("{format}{size}, as pixels"),
        (PackForm::Files { .. }, None) => format!("{format}, files as they are"),
        (PackForm::Files { quality }, Some(_)) => {
            format!("{format}{size}, what is shrunk as JPEG of quality {quality}")
        }
    }
}

/// What two packs must have in common for one to go on with the other.
fn plan(listing: &Listing, about: &str) -> [u8; 32] {
    let mut source = fingerprint(&listing.class_names, &[(&listing.samples, &listing.store)]);
    if let Store::Encoded(_) = listing.store {
        // Of rows no lengths are known before they are read; of their files they are.
        for file in listing.store.files(&listing.samples) {
            let length = std::fs::metadata(file).map_or(0, |facts| facts.len());
            source.push_str(&format!(" {length}"));
        }
    }
    Sha256::digest(format!("alpharho pack 1\n{source}\n{about}")).into()
}

fn index(listing: &Listing, about: String, places: &[Place], left_out: Vec<(String, String)>) -> Index {
    let mut images = Vec::with_capacity(places.len());
    for (sample, place) in listing.samples.iter().zip(places).filter(|(_, place)| place.kind != Kind::LeftOut) {
        images.push(Image { name: sample.name.clone(), label: sample.label, place: *place });
    }
    Index { about, class_names: listing.class_names.clone(), images, left_out }
}

struct Packing<'a> {
    source: &'a Path,
    listing: &'a Listing,
    options: &'a PackOptions,
    partial: Partial,
    /// Of the images that are packed or left out.
    places: Vec<Place>,
    left_out: Vec<(String, String)>,
}

impl Packing<'_> {
    /// What an earlier run left out is left out still.
    fn take_up_left_out(&mut self) -> Result<(), DataError> {
        for (sample, place) in self.listing.samples.iter().zip(&self.places) {
            if place.kind == Kind::LeftOut {
                let reason = self.partial.text(place)?;
                self.left_out.push((sample.name.clone(), reason));
            }
        }
        self.check_broken()
    }

    fn check_broken(&self) -> Result<(), DataError> {
        let max = self.options.broken_max;
        match self.left_out.last() {
            Some((name, reason)) if self.left_out.len() > max as usize => {
                let problem = format!(
                    "{} images are broken, and --broken-max is {max}; the last is {name}: {reason}; repair or remove them, \
                     or raise the limit and go on",
                    self.left_out.len()
                );
                Err(DataError::malformed(self.source.display().to_string(), problem))
            }
            _ => Ok(()),
        }
    }

    fn run(
        &mut self,
        rows: &mut Option<Rows>,
        watch: &mut dyn FnMut(PackEvent<'_>) -> ControlFlow<()>,
    ) -> Result<(), DataError> {
        let (listing, options) = (self.listing, self.options);
        let threads = options.threads.max(1);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            // Jobs are bounded by how many are given out, so nobody ever waits to send.
            let (jobs_in, jobs) = crossbeam_channel::unbounded::<(usize, Bytes<'_>)>();
            let (made_in, made) = crossbeam_channel::unbounded();
            for number in 0..threads {
                let (jobs, made_in, stop) = (jobs.clone(), made_in.clone(), &stop);
                let work = move || {
                    let mut converter = Converter::new(options.form, options.size);
                    for (number, bytes) in jobs {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        // A decoder that panics on an image has found a broken image too.
                        let record = catch_unwind(AssertUnwindSafe(|| converter.convert(&bytes)));
                        let record = record.unwrap_or_else(|_| Err("its decoder panicked".to_owned()));
                        if made_in.send((number, record)).is_err() {
                            return;
                        }
                    }
                };
                let started = thread::Builder::new().name(format!("packer-{number}")).spawn_scoped(scope, work);
                match started {
                    Ok(_) => {}
                    // One is enough.
                    Err(error) if number == 0 => return Err(DataError::Loader { reason: error.to_string() }),
                    Err(_) => break,
                }
            }
            drop(made_in);
            let mut early = BTreeMap::new();
            let mut given = self.places.len();
            let ended = 'all: loop {
                while given < listing.samples.len() && given - self.places.len() < threads * AHEAD {
                    let Some(sample) = listing.samples.get(given) else { break };
                    let bytes = match rows.as_mut().map(Rows::next_image) {
                        None => Bytes::Stored(&listing.store, sample),
                        Some(Ok(file)) => Bytes::Row(file),
                        Some(Err(error)) => break 'all Err(error),
                    };
                    // The threads are there as long as this end is.
                    let _ = jobs_in.send((given, bytes));
                    given += 1;
                }
                if self.places.len() == given {
                    break Ok(());
                }
                let Ok((number, record)) = made.recv() else {
                    break Err(DataError::Loader { reason: "they ended before their work was done".into() });
                };
                early.insert(number, record);
                match self.write_those_due(&mut early, watch) {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            stop.store(true, Ordering::Relaxed);
            ended
        })
    }

    /// Writes what comes next, as far as it is there.
    fn write_those_due(
        &mut self,
        early: &mut BTreeMap<usize, Result<Record, String>>,
        watch: &mut dyn FnMut(PackEvent<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, DataError> {
        while let Some(record) = early.remove(&self.places.len()) {
            let (sample, total) = (&self.listing.samples[self.places.len()], self.listing.samples.len() as u64);
            let record = record.unwrap_or_else(|reason| {
                let path = self.listing.store.path(sample);
                // Only `Packed` breaks off.
                let _ = watch(PackEvent::LeftOut { path: &path, reason: &reason });
                self.left_out.push((sample.name.clone(), reason.clone()));
                Record::left_out(reason)
            });
            let place = self.partial.add(&record)?;
            self.places.push(place);
            self.check_broken()?;
            let done = self.places.len() as u64;
            if watch(PackEvent::Packed { done, total, bytes: place.bytes }).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
