//! `none` and `auto` in place of a number.

macro_rules! word {
    ($(#[$doc:meta])* $module:ident, $word:literal) => {
        $(#[$doc])*
        pub(crate) mod $module {
            use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

            #[derive(Deserialize)]
            #[serde(untagged)]
            enum Either<T> {
                Value(T),
                Word(String),
            }

            pub(crate) fn serialize<S: Serializer, T: Serialize>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
                match value {
                    Some(value) => value.serialize(to),
                    None => to.serialize_str($word),
                }
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
                match Either::deserialize(from) {
                    Ok(Either::Value(value)) => Ok(Some(value)),
                    Ok(Either::Word(word)) if word == $word => Ok(None),
                    _ => Err(D::Error::custom(concat!("expected a number or the word ", $word))),
                }
            }
        }
    };
}

word!(
    /// A number, or `none`.
    none_word,
    "none"
);
word!(
    /// A number, or `auto`.
    auto_word,
    "auto"
);
