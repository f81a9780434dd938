//! One text for one meaning, to be hashed and compared: keys sorted, `1.0` written `1`.

use serde_json::{Number, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Floats below this that are whole are written as whole numbers.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A number in its plainest form; anything else as it is.
pub(crate) fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => match number.as_f64() {
            #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
            Some(float) if float.fract() == 0.0 && float.abs() < EXACT => Value::Number(Number::from(float as i64)),
            _ => value.clone(),
        },
        _ => value.clone(),
    }
}

/// Canonical JSON.
pub(crate) fn text(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

/// The first 32 hexadecimal digits of the SHA-256 of canonical JSON.
pub(crate) fn hash(value: &Value) -> String {
    digest(&text(value))
}

/// The first 32 hexadecimal digits of a text's SHA-256.
pub(crate) fn digest(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(16).fold(String::with_capacity(32), |mut out, byte| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            out.push('{');
            for (index, (key, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                let _ = write!(out, "{}:", Value::String(key.clone()));
                write(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        scalar => match plain(scalar) {
            // The standard library's digits, which no release of the JSON library can change: hashes are kept.
            Value::Number(number) if number.is_f64() => {
                let _ = write!(out, "{}", number.as_f64().unwrap_or_default());
            }
            scalar => {
                let _ = write!(out, "{scalar}");
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_text_for_one_meaning() {
        for (value, expected) in [
            (json!({"b": 1.0, "a": [0.5, -0.0, 2]}), r#"{"a":[0.5,0,2],"b":1}"#),
            (json!({"a": {"z": null, "y": true}}), r#"{"a":{"y":true,"z":null}}"#),
            (json!("a\"b"), r#""a\"b""#),
            (json!(4e-5), "0.00004"),
            (json!(1e21), "1000000000000000000000"),
        ] {
            assert_eq!(text(&value), expected);
        }
    }

    #[test]
    fn the_hash_is_the_first_half_of_sha256() {
        // printf '{"a":1}' | sha256sum
        assert_eq!(hash(&json!({"a": 1.0})), "015abd7f5cc57a2dd94b7590f04ad808");
    }
}
