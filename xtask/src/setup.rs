//! `cargo xtask setup`: what a machine must have before anything can be built or trained.

use std::fs::{self, File, TryLockError};

use anyhow::{Context, Result};

use crate::house::House;
use crate::install::remove_folder;
use crate::libtorch::{self, Libtorch};
use crate::{elpv, fashion_mnist, gcompris, needs};

/// A data set that setup can fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Data {
    /// 2,624 photographs of solar cells (CC BY-NC-SA 4.0).
    Elpv,
    /// 70,000 pictures of clothes, 28 × 28 (MIT).
    FashionMnist,
    /// 196 colour photographs of five kinds of things (free licences).
    Gcompris,
    /// All of them.
    All,
}

/// What to set up besides libtorch for the CPU.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The CUDA flavour of libtorch too.
    pub(crate) cuda: bool,
    /// The data sets.
    pub(crate) data: Vec<Data>,
}

/// Checks what the machine must bring, then does what is missing. A second run finds everything and is quick.
pub(crate) fn setup(house: &House, wanted: &Wanted) -> Result<Libtorch> {
    needs::compiler()?;
    needs::make()?;
    fs::create_dir_all(&house.state).with_context(|| format!("cannot create {}", house.state.display()))?;
    let lock = lock(house)?;
    // What an interrupted run left.
    remove_folder(&house.scratch())?;
    let libtorch = libtorch::setup(house, wanted.cuda)?;
    let has = |data: Data| wanted.data.contains(&data) || wanted.data.contains(&Data::All);
    if has(Data::Elpv) {
        elpv::setup(house)?;
    }
    if has(Data::FashionMnist)
        && let fashion_mnist::Outcome::Unavailable(what_to_do) = fashion_mnist::setup(house)?
    {
        println!("{what_to_do}");
    }
    if has(Data::Gcompris) {
        gcompris::setup(house)?;
    }
    remove_folder(&house.scratch())?;
    lock.unlock()?;
    Ok(libtorch)
}

/// Waits until no other setup works in the same folder. The lock ends with the process.
fn lock(house: &House) -> Result<File> {
    let path = house.state.join("setup.lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            println!("another setup is at work in {}: waiting for it", house.state.display());
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    Ok(file)
}
