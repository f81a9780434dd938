//! Training on a GPU, on one of pretence (`pretended/cuda.cpp`): what the trainer asks of CUDA is asked in an order that
//! holds on a real one too, and comes to what the CPU comes to. How fast a real one is, it does not tell.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail so")]

mod common;

use common::{end, metrics, newest, photographs, tensors, trial};
use proto::link::{DataPlaces, Member, Order, Said, Start};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use sweeps::ids::{Token, TrialId};
use sweeps::scheduler::AttemptEnd;
use sweeps::trial::Trial;
use tch::{Device, Kind, Tensor};
use trainer::gpu::Stream;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pretended/cuda.cpp");

/// The folder of a `libtorch_cuda.so` that pretends; compiled where it was not yet.
fn pretended() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pretended");
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let (library, compiled) = (folder.join("libtorch_cuda.so"), folder.join("compiled.cpp"));
    let source = fs::read_to_string(SOURCE).unwrap();
    if fs::read_to_string(&compiled).is_ok_and(|known| known == source) && library.exists() {
        return folder;
    }
    let done = Command::new(std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned()))
        .args(["-std=c++17", "-O1", "-fPIC", "-shared", "-D_GLIBCXX_USE_CXX11_ABI=1", "-DNDEBUG", "-w", "-I"])
        .args([env!("ALPHARHO_LIBTORCH_INCLUDE"), SOURCE, "-o"])
        .arg(&library)
        .status();
    assert!(done.unwrap().success(), "the pretended GPU does not compile");
    fs::write(compiled, source).unwrap();
    folder
}

/// What a trainer said, what it wrote to standard error, and what was done on its GPU.
struct Trained {
    said: Vec<Said>,
    errors: String,
    done: serde_json::Value,
}

impl Trained {
    fn count(&self, what: &str) -> u64 {
        self.done[what].as_u64().unwrap()
    }

    fn logs(&self) -> String {
        let log = |said: &Said| match said {
            Said::Log { text, .. } => Some(text.clone()),
            _ => None,
        };
        self.said.iter().filter_map(log).collect::<Vec<_>>().join("\n")
    }
}

/// Trains in a process of its own, on `cpu` or `cuda:0`, whose members share it in that way.
fn train(folder: &Path, trials: &[Trial], device: &str, sharing: &str, bytes: u64) -> Trained {
    let member = |(number, trial): (u64, &Trial)| Member {
        token: Token::chief(TrialId(number), 1),
        trial: trial.clone(),
        resume: None,
        threads: 0,
        exchange: None,
    };
    let checkpoints = folder.join("checkpoints");
    fs::create_dir_all(&checkpoints).unwrap();
    let start = Order::Start(Start {
        members: (1..).zip(trials).map(member).collect(),
        device: device.to_owned(),
        threads: 1,
        slots: 1,
        folder: checkpoints,
        data: DataPlaces::default(),
    });
    let report = folder.join("report.json");
    let mut process = Command::new(env!("CARGO_BIN_EXE_alpharho-trainer"))
        .env("ALPHARHO_LIBTORCH", pretended())
        .env("ALPHARHO_GPU_SHARING", sharing)
        .env("ALPHARHO_PRETENDED_BYTES", bytes.to_string())
        .env("ALPHARHO_PRETENDED_REPORT", &report)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::create(folder.join("errors.txt")).unwrap())
        .spawn()
        .unwrap();
    let mut orders = process.stdin.take().unwrap();
    writeln!(orders, "{}", serde_json::to_string(&start).unwrap()).unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let said = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    process.wait().unwrap();
    drop(orders);
    let done = fs::read_to_string(&report).map_or(serde_json::Value::Null, |text| serde_json::from_str(&text).unwrap());
    Trained { said, errors: fs::read_to_string(folder.join("errors.txt")).unwrap(), done }
}

/// In five batches an epoch.
fn four(folder: &Path, settings: serde_json::Value) -> Vec<Trial> {
    let mut training = serde_json::json!({"epochs": 2, "batch_size": 16, "learning_rate": 0.01, "dropout": 0.1});
    training.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let mut trials: Vec<Trial> = [32, 64, 32, 64].map(|side| trial(folder, side, training.clone())).into();
    for (seed, trial) in (1..).zip(&mut trials) {
        trial.seed = seed;
    }
    trials
}

const PLENTY: u64 = 1 << 34;
const WAYS: [&str; 4] = ["launches", "streams", "graphs", "streams+graphs"];

/// Every setting that adds something to a step or to an evaluation.
#[test]
fn however_a_gpu_is_shared_the_same_comes_of_it() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let trials = four(
        folder.path(),
        serde_json::json!({
            "weight_ema": 0.9, "batch_norm": {"decay": 0.8, "reestimate_batches": 2},
            "gradient_clip_norm": 1.0, "weight_decay": 0.0001, "label_smoothing": 0.1,
        }),
    );
    let mut first = None;
    for sharing in WAYS {
        let of = train(folder.path(), &trials, "cuda:0", sharing, PLENTY);
        assert_eq!(of.errors, "", "{sharing}");
        let ends: Vec<_> =
            (1..=4).map(|id| (end(&of.said, id), metrics(&of.said, id), tensors(&newest(&of.said, id)))).collect();
        assert!(ends.iter().all(|(end, ..)| *end == AttemptEnd::Completed), "{sharing}: {ends:?}");
        assert_eq!(first.get_or_insert_with(|| ends.clone()), &ends, "{sharing}");
        // The one that batches are sent on, and those of the members; in the measurement there were others.
        assert_eq!(of.count("streams") > 5, sharing.contains("streams"), "{sharing}: {}", of.done);
        assert!(of.count("pinned_copies") > 0 && of.count("waits") > 0, "{sharing}: {}", of.done);
        // All but the first step of each.
        assert_eq!(of.count("replays") >= 4 * 9, sharing.contains("graphs"), "{sharing}: {}", of.done);
        assert!(of.logs().contains("measured"), "{}", of.logs());
    }
}

/// With steps so short that rounding does not grow.
#[test]
fn a_gpu_comes_to_what_a_cpu_comes_to() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    // The CPU takes long for bf16.
    for (precision, count, tolerance) in [("f32", 4, 0.002), ("bf16", 1, 0.05)] {
        let settings = serde_json::json!({"batch_size": 40, "learning_rate": 1e-6, "precision": precision});
        let trials = &four(folder.path(), settings)[..count];
        let [of_cpu, of_gpu] =
            ["cpu", "cuda:0"].map(|device| train(folder.path(), trials, device, "streams+graphs", PLENTY));
        assert_eq!(of_gpu.errors, "");
        for (id, _) in (1..).zip(trials) {
            assert_eq!(end(&of_gpu.said, id), AttemptEnd::Completed);
            let pairs = metrics(&of_cpu.said, id).into_iter().zip(metrics(&of_gpu.said, id));
            for ((epoch, name, expected), (_, other, value)) in pairs.filter(|((_, name, _), _)| name.ends_with("loss"))
            {
                assert_eq!(name, other);
                let is_near = (value - expected).abs() <= tolerance * expected.abs();
                assert!(is_near, "{precision}, trial {id}, epoch {epoch}: {name} is {value}, on the CPU {expected}");
            }
        }
    }
}

#[test]
fn members_take_turns_where_a_gpu_has_too_little_memory_for_all() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let trials = four(folder.path(), serde_json::json!({}));
    let alone = train(folder.path(), &trials[1..2], "cuda:0", "graphs", PLENTY);
    let plenty = train(folder.path(), &trials, "cuda:0", "graphs", PLENTY);
    // What is too little for four and enough for one: the measurement itself needs no more than that of the CPU's way.
    let little = (alone.count("peak_bytes") + plenty.count("peak_bytes")) / 2;
    let turns = train(folder.path(), &trials, "cuda:0", "graphs", little);
    assert!(turns.logs().contains("They take turns"), "{} {}", turns.logs(), turns.errors);
    for id in 1..=4 {
        assert_eq!(end(&turns.said, id), AttemptEnd::Completed);
        assert_eq!(metrics(&turns.said, id), metrics(&plenty.said, id));
    }
    assert!(turns.count("peak_bytes") <= little);
}

/// The process ends, so that the coordinator lets half of them go on; a trial alone is told why.
#[test]
fn a_gpu_without_memory_blames_nobody_but_a_trial_alone() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let trials = four(folder.path(), serde_json::json!({}));
    let together = train(folder.path(), &trials, "cuda:0", "launches", 20_000_000);
    assert!(together.errors.contains("memory does not suffice for 4 trials at a time"), "{}", together.errors);
    assert!(together.said.iter().all(|said| !matches!(said, Said::Ended { .. })));
    let alone = train(folder.path(), &trials[1..2], "cuda:0", "launches", 2_000_000);
    let AttemptEnd::Failed { reason } = end(&alone.said, 1) else { panic!("{:?} {}", alone.said, alone.errors) };
    assert!(reason.contains("CUDA out of memory") && !reason.contains("Exception"), "{reason}");
    assert!(!(together.errors + &alone.errors).contains("panicked"));
}

/// That the tests above would see it.
#[test]
fn the_pretended_gpu_knows_who_has_not_waited() {
    let library = std::ffi::CString::new(pretended().join("libtorch_cuda.so").to_str().unwrap()).unwrap();
    #[expect(unsafe_code, reason = "as the trainer loads it")]
    // SAFETY: its initialisers only register operators.
    let handle = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    assert!(!handle.is_null());
    let options = (Kind::Float, Device::Cuda(0));
    let [one, other] = [(); 2].map(|()| Stream::new(0).unwrap());
    let written = one.run(|| Tensor::f_ones([8], options)).unwrap().unwrap();
    let early = other.run(|| written.f_neg()).unwrap();
    assert!(early.unwrap_err().to_string().contains("race on the pretended GPU"));
    other.wait_for(one).unwrap();
    other.uses(&written).unwrap();
    let late = other.run(|| written.f_neg()).unwrap().unwrap();
    assert!(one.run(|| written.shallow_clone().f_zero_()).unwrap().is_err(), "the other stream may still read it");
    one.wait_for(other).unwrap();
    let _ = one.run(|| written.shallow_clone().f_zero_()).unwrap().unwrap();
    other.mark().unwrap().wait().unwrap();
    assert_eq!(Vec::<f32>::try_from(late).unwrap(), [-1.0; 8]);
    let (left, held) = Stream::first(0).memory().unwrap();
    assert!(left > 1 << 30 && held >= 32);
}
