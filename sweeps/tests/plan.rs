//! What `plan` prints.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use sweeps::plan::{Plan, PlanFormat};
use sweeps::spec::parse;

const IMAGENET: &str = include_str!("../mobilenet-imagenet.yaml");

/// α, ρ, Mult-Adds, parameters of the paper's 16 cells, counted independently of this program.
const GRID: [(f64, u32, u64, u64); 16] = [
    (1.0, 224, 568_740_352, 4_231_976),
    (1.0, 192, 418_121_728, 4_231_976),
    (1.0, 160, 290_675_200, 4_231_976),
    (1.0, 128, 186_400_768, 4_231_976),
    (0.75, 224, 325_400_448, 2_585_560),
    (0.75, 192, 239_273_472, 2_585_560),
    (0.75, 160, 166_396_800, 2_585_560),
    (0.75, 128, 106_770_432, 2_585_560),
    (0.5, 224, 149_497_088, 1_331_592),
    (0.5, 192, 109_970_432, 1_331_592),
    (0.5, 160, 76_524_800, 1_331_592),
    (0.5, 128, 49_160_192, 1_331_592),
    (0.25, 224, 41_030_272, 470_072),
    (0.25, 192, 30_212_608, 470_072),
    (0.25, 160, 21_059_200, 470_072),
    (0.25, 128, 13_570_048, 470_072),
];

fn plan(text: &str) -> Plan {
    Plan::new(&parse("test.yaml", text).unwrap_or_else(|problems| panic!("{problems}"))).unwrap()
}

#[test]
fn the_shipped_sweep_is_the_papers_grid() {
    let csv = plan(IMAGENET).render(PlanFormat::Csv);
    let mut lines = csv.lines();
    assert_eq!(
        lines.next().unwrap(),
        "trial,alpha,resolution,mult_adds,params,params_without_batch_norm,seed,epochs,compute_share,memory_bytes"
    );
    for (index, (alpha, resolution, mult_adds, params)) in GRID.into_iter().enumerate() {
        let expected = format!("{},{alpha},{resolution},{mult_adds},{params},", index + 1);
        let line = lines.next().unwrap();
        assert!(line.starts_with(&expected), "{line}");
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn shares_add_up_and_follow_epochs() {
    let plan = plan(&IMAGENET.replace("\ndata:", "\n  training.epochs: {values: [10, 30]}\ndata:"));
    assert_eq!(plan.rows.len(), 32);
    assert_eq!(plan.axes, ["training.epochs"]);
    let total: f64 = plan.rows.iter().map(|row| row.compute_share).sum();
    assert!((total - 1.0).abs() < 1e-12);
    let [short, long] = [&plan.rows[0], &plan.rows[1]];
    assert_eq!((short.epochs, long.epochs), (10, 30));
    assert!((long.compute_share / short.compute_share - 3.0).abs() < 1e-12);
    let sum: u64 = GRID.iter().map(|cell| cell.2 * 40).sum();
    assert!((plan.mult_adds_epochs - sum as f64).abs() < 1.0);
}

#[test]
fn memory_and_disk_follow_their_formulas() {
    let cell = |changes: &[(&str, &str)]| {
        let text = changes.iter().fold(IMAGENET.to_owned(), |text, (old, new)| {
            assert!(text.contains(old), "{old}");
            text.replace(old, new)
        });
        let plan = plan(&text);
        (plan.rows[0].memory_bytes, plan.checkpoint_bytes)
    };
    // Layers' outputs of MobileNet at α 1, ρ 224, with 1000 classes: 5,045,736 values.
    let values = 5_045_736_u64;
    let params = 4_231_976_u64;
    let all: u64 = GRID.iter().map(|cell| cell.3).sum();
    assert_eq!(cell(&[]), (32 * values * 4 * 3 + params * 16, all * 12 * 2));
    assert_eq!(cell(&[("batch_size: 32", "batch_size: 1")]).0, values * 4 * 3 + params * 16);
    let averaged = cell(&[("dropout: 0.001", "weight_ema: 0.999"), ("[best, latest]", "[latest]")]);
    assert_eq!(averaged, (32 * values * 4 * 3 + params * 20, all * 16));
    let half = cell(&[("dropout: 0.001", "precision: bf16")]).0;
    assert_eq!(half, 32 * values * 4 * 3 / 2 + params * 16);
}

#[test]
fn the_table_is_for_people() {
    let table = plan(IMAGENET).render(PlanFormat::Table);
    for part in ["  569 M  4.23 M     100", " 13.6 M   470 k ", "16 in all", "BatchNorm", "auto", "best and latest"] {
        assert!(table.contains(part), "{part:?} is not in\n{table}");
    }
    let widths: Vec<usize> = table.lines().take(18).map(|line| line.chars().count()).collect();
    assert!(widths.iter().all(|width| *width == widths[0]), "{table}");
}

#[test]
fn other_formats_say_the_same() {
    let plan = plan(&IMAGENET.replace("name: mobilenet-imagenet", "name: seeds\nseeds: [1, 2]"));
    let json: serde_json::Value = serde_json::from_str(&plan.render(PlanFormat::Json)).unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), 32);
    assert_eq!(json["rows"][0]["mult_adds"], 568_740_352);
    assert_eq!(json["rows"][31]["seed"], 2);
    let markdown = plan.render(PlanFormat::Markdown);
    assert_eq!(markdown.lines().filter(|line| line.starts_with('|')).count(), 2 + 32 + 1);
    assert!(markdown.starts_with("| trial | α | ρ | Mult-Adds | params | seed | epochs | compute | memory |\n"));
}

#[test]
fn a_script_is_called_one() {
    let plan = plan(include_str!("specs/good/scripted.yaml"));
    assert!(plan.scripted);
    assert!(plan.render(PlanFormat::Table).contains("made up"));
}

#[test]
fn every_shipped_sweep_can_be_planned() {
    for (text, trials) in [
        (include_str!("../quickstart.yaml"), 4..13),
        (include_str!("../elpv-grid.yaml"), 16..17),
        (include_str!("../fashion-mnist.yaml"), 16..17),
    ] {
        let plan = plan(text);
        assert!(trials.contains(&plan.rows.len()), "{}", plan.sweep);
        assert!(!plan.scripted);
    }
}
