//! A trained network as a safetensors file that timm's MobileNet loads with `strict=True`.
//!
//! timm's `mobilenetv1_100` is this network at α = 1: same layers, same symmetric padding, same input from −1 to 1.
//! Two things differ and are settled here. Names: blocks are counted anew at each stride of 2. BatchNorm's epsilon
//! (0.001 in the published code, 0.00001 in timm) is no tensor, so the difference is added to `running_var`:
//! `variance + ε` is then the same number, and the model needs no argument that could be forgotten.

mod file;
mod names;
#[cfg(test)]
mod tests;

use crate::origin::{self, Origin};
use crate::trained::{Trained, TrainedError, Values};
use file::Entry;
use sweeps::network::{Connection, Operation};
use sweeps::spec::model::{Activation, Variant};

/// The epsilon of timm's models unless told otherwise.
const TIMM_EPSILON: f64 = 1e-5;

/// The file's bytes. The same checkpoint gives the same bytes.
///
/// # Errors
/// When the checkpoint lacks a tensor of its network.
pub fn write(trained: &Trained, origin: Origin<'_>) -> Result<Vec<u8>, TrainedError> {
    // What PyTorch's users expect there.
    let mut metadata = vec![("format".to_owned(), "pt".to_owned())];
    metadata.extend(origin::describe(trained, origin));
    metadata.push(("batch_norm_epsilon".to_owned(), TIMM_EPSILON.to_string()));
    metadata.push(("timm".to_owned(), timm_call(trained)));
    Ok(file::write(&metadata, &entries(trained)?))
}

/// All tensors, in the order of computation.
fn entries(trained: &Trained) -> Result<Vec<Entry>, TrainedError> {
    let mut entries = Vec::new();
    let mut timm = names::Names::default();
    for (layer, input, _) in trained.network.with_shapes() {
        let ours = layer.name.as_str();
        match layer.operation {
            Operation::Convolution(convolution) => {
                let within = if convolution.connection == Connection::Depthwise { 1 } else { input.channels };
                let sides = [convolution.channels, within, convolution.kernel, convolution.kernel].map(count);
                let names::Convolution { filters, batch_norm } = timm.convolution(convolution);
                entries.push(floats(format!("{filters}.weight"), trained.values(&format!("{ours}.weight"), &sides)?));
                if convolution.bias {
                    entries
                        .push(floats(format!("{filters}.bias"), trained.values(&format!("{ours}.bias"), &sides[..1])?));
                }
                if !convolution.batch_norm {
                    continue;
                }
                for (part, theirs) in
                    [("scale", "weight"), ("shift", "bias"), ("mean", "running_mean"), ("variance", "running_var")]
                {
                    let values = trained.values(&format!("{ours}.batch_norm.{part}"), &sides[..1])?;
                    let name = format!("{batch_norm}.{theirs}");
                    entries.push(match part {
                        "variance" => floats(name, &with_their_epsilon(trained, values)),
                        _ => floats(name, values),
                    });
                }
                entries.push(Entry::count(format!("{batch_norm}.num_batches_tracked"), trained.step));
            }
            Operation::Dense { outputs, bias } => {
                let within = count(input.height * input.width * input.channels);
                entries.push(floats(
                    format!("{ours}.weight"),
                    trained.values(&format!("{ours}.weight"), &[count(outputs), within])?,
                ));
                if bias {
                    entries.push(floats(
                        format!("{ours}.bias"),
                        trained.values(&format!("{ours}.bias"), &[count(outputs)])?,
                    ));
                }
            }
            Operation::Pool { .. } | Operation::GlobalAveragePool | Operation::Concatenate | Operation::Dropout => {}
        }
    }
    Ok(entries)
}

/// Variances to which timm's epsilon is added instead of ours, with the same sum.
#[expect(clippy::cast_possible_truncation, reason = "a variance is kept in 32 bits")]
fn with_their_epsilon(trained: &Trained, variance: &Values) -> Values {
    let difference = trained.trial.training.batch_norm.epsilon - TIMM_EPSILON;
    let values = variance.values.iter().map(|value| (f64::from(*value) + difference) as f32).collect();
    Values { shape: variance.shape.clone(), values }
}

/// How to make the model that loads the file, in Python; or why timm has none.
fn timm_call(trained: &Trained) -> String {
    let trial = &trained.trial;
    let (alpha, classes) = (trial.alpha, trial.data.classes);
    let activation = match trial.training.activation {
        Activation::Relu6 => "",
        Activation::Relu => ", act_layer='relu'",
    };
    if !names::timm_rounds_alike(&trained.network) {
        return format!(
            "none: at width {alpha} timm rounds channels to multiples of 8 and training takes the integer part"
        );
    }
    match trial.network {
        Variant::Mobilenet if alpha == 1.0 => {
            format!("timm.create_model('mobilenetv1_100', num_classes={classes}{activation})")
        }
        Variant::Mobilenet => format!(
            "timm.models.efficientnet._gen_mobilenet_v1('mobilenetv1_100', {alpha}, num_classes={classes}{activation})"
        ),
        Variant::ShallowMobilenet | Variant::ConvMobilenet => {
            "no ready-made one; bench/peers/weights/networks.py builds it from timm's own parts".to_owned()
        }
    }
}

fn floats(name: String, values: &Values) -> Entry {
    Entry::floats(name, values.shape.clone(), &values.values)
}

fn count(side: u32) -> usize {
    usize::try_from(side).unwrap_or(usize::MAX)
}
