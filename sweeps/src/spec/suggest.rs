//! "did you mean".

/// Longer words are not compared.
const LENGTH_MAX: usize = 64;

/// The likeliest of the candidates, if any is near: at most a third of the letters differ.
pub(super) fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if given.len() > LENGTH_MAX {
        return None;
    }
    let given = given.to_lowercase().replace('-', "_");
    let allowed = (given.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&given, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean "…"?`, or nothing.
pub(super) fn clause(suggestion: Option<&str>) -> String {
    suggestion.map(|word| format!("; did you mean \"{word}\"?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn suggests_what_is_near() {
        let words = ["resolution", "alpha", "training.learning_rate"];
        for (given, expected) in [
            ("resolutoin", Some("resolution")),
            ("Alpha", Some("alpha")),
            ("training.learning-rate", Some("training.learning_rate")),
            ("width", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, words), expected, "{given}");
        }
    }
}
