//! The file as a tree of marked values: what each check and each message takes its place from.
//!
//! Built from a parser's events with a stack of our own, so that no nesting can exhaust the program's.
//! Anchors, aliases and tags are refused: a sweep needs none, and without them a file cannot grow while it is
//! read.

use super::problems::{Place, Problems};
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use std::collections::BTreeSet;

/// Lists and mappings within each other; a sweep has 5.
const DEPTH_MAX: usize = 8;
/// Characters of a key; the longest of a sweep has 31.
const KEY_LENGTH_MAX: usize = 64;

/// A value and where it begins.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Already refused; to be passed over in silence.
    Refused,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Node,
}

/// A single value, resolved by the rules of YAML 1.2.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    /// Nothing, or `null`.
    Null,
    Flag(bool),
    Whole(i128),
    /// Not whole as written; may be infinite or not a number.
    Number(f64),
    Text(String),
}

/// Reads the whole text. None if it is not YAML at all, which is then among the problems.
pub(super) fn read(text: &str, problems: &mut Problems) -> Option<Node> {
    let mut builder = Builder { stack: Vec::new(), root: None, problems };
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((event, span)) => builder.take(event, place_of(&span)),
            Err(error) => {
                let mark = error.marker();
                let place = Place { line: mark.line().max(1), column: mark.col() + 1 };
                Err((place, format!("this is not YAML: {}", error.info())))
            }
        };
        if let Err((place, message)) = step {
            builder.problems.add(place, "", || message);
            return None;
        }
    }
    builder.root.or(Some(Node { place: Place::START, content: Content::Scalar(Scalar::Null) }))
}

fn place_of(span: &Span) -> Place {
    Place { line: span.start.line().max(1), column: span.start.col() + 1 }
}

/// What ends the reading: where, and why.
type Fatal = (Place, String);

struct Builder<'a> {
    stack: Vec<Frame>,
    root: Option<Node>,
    problems: &'a mut Problems,
}

/// A list or mapping that is not closed yet.
enum Frame {
    List { place: Place, items: Vec<Node> },
    Map { place: Place, entries: Vec<Entry>, seen: BTreeSet<String>, key: Option<(Place, String)> },
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), Fatal> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                if matches!(event, Event::DocumentStart(_)) && self.root.is_some() {
                    return Err((place, "a second document begins here; a sweep file holds one".to_owned()));
                }
                Ok(())
            }
            Event::Alias(_) => {
                self.problems.add(place, "", || "aliases (*) are not read; write the value out".to_owned());
                self.put(Node { place, content: Content::Refused })
            }
            Event::Scalar(text, style, anchor, tag) => {
                let refused = self.refuse(place, anchor, tag.is_some());
                let plain = style == ScalarStyle::Plain;
                let content = match (refused, plain) {
                    (true, _) => Content::Refused,
                    (false, true) if !self.awaits_key() => Content::Scalar(resolve(&text)),
                    (false, _) => Content::Scalar(Scalar::Text(text.into_owned())),
                };
                self.put(Node { place, content })
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse(place, anchor, tag.is_some());
                self.open(place, Frame::List { place, items: Vec::new() })
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse(place, anchor, tag.is_some());
                self.open(place, Frame::Map { place, entries: Vec::new(), seen: BTreeSet::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(Frame::List { place, items }) => self.put(Node { place, content: Content::List(items) }),
                Some(Frame::Map { place, entries, .. }) => self.put(Node { place, content: Content::Map(entries) }),
                None => Err((place, "this is not YAML: a list or mapping ends that never began".to_owned())),
            },
        }
    }

    /// Whether an anchor or a tag stands there, which is then a problem.
    fn refuse(&mut self, place: Place, anchor: usize, tag: bool) -> bool {
        if anchor != 0 {
            self.problems.add(place, "", || "anchors (&) are not read; remove it".to_owned());
        }
        if tag {
            self.problems.add(place, "", || "tags (!) are not read; remove it".to_owned());
        }
        anchor != 0 || tag
    }

    fn open(&mut self, place: Place, frame: Frame) -> Result<(), Fatal> {
        if self.awaits_key() {
            return Err((place, "a key must be a word; it is a list or mapping here".to_owned()));
        }
        if self.stack.len() == DEPTH_MAX {
            return Err((place, format!("lists and mappings lie more than {DEPTH_MAX} deep here")));
        }
        self.stack.push(frame);
        Ok(())
    }

    fn awaits_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame::Map { key: None, .. }))
    }

    fn put(&mut self, node: Node) -> Result<(), Fatal> {
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { key: waiting @ None, .. }) => {
                let key = match node.content {
                    Content::Scalar(Scalar::Text(key)) if key.chars().count() <= KEY_LENGTH_MAX => key,
                    Content::Scalar(_) => {
                        return Err((node.place, format!("a key of over {KEY_LENGTH_MAX} characters is none of ours")));
                    }
                    _ => return Err((node.place, "a key must be a plain word".to_owned())),
                };
                *waiting = Some((node.place, key));
            }
            Some(Frame::Map { entries, seen, key, .. }) => {
                if let Some((place, key)) = key.take() {
                    // An empty value has no place of its own.
                    let at = if matches!(node.content, Content::Scalar(Scalar::Null)) { place } else { node.place };
                    if seen.insert(key.clone()) {
                        entries.push(Entry { key, place, value: Node { place: at, ..node } });
                    } else {
                        self.problems.add(place, "", || format!("the key \"{key}\" stands twice in this mapping"));
                    }
                }
            }
        }
        Ok(())
    }
}

/// What a plain scalar means. The YAML library decides, so that there is one set of rules.
fn resolve(text: &str) -> Scalar {
    use serde_yaml::Value;
    if text.is_empty() {
        return Scalar::Null;
    }
    // Long lists are mostly of these, and the library takes its time.
    if text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'))
    {
        return text.parse().map_or_else(|_| Scalar::Text(text.to_owned()), Scalar::Whole);
    }
    // Nothing else can begin a number, true, false or null.
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.~nNtTfF".contains(first)) {
        return Scalar::Text(text.to_owned());
    }
    match serde_yaml::from_str(text) {
        Ok(Value::Null) => Scalar::Null,
        Ok(Value::Bool(flag)) => Scalar::Flag(flag),
        Ok(Value::Number(number)) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(whole), _, _) => Scalar::Whole(whole.into()),
            (None, Some(whole), _) => Scalar::Whole(whole.into()),
            (None, None, Some(number)) => Scalar::Number(number),
            (None, None, None) => Scalar::Text(text.to_owned()),
        },
        _ => Scalar::Text(text.to_owned()),
    }
}

impl Node {
    /// Its value, if it is a number.
    pub(super) fn number(&self) -> Option<f64> {
        match self.content {
            #[expect(clippy::cast_precision_loss, reason = "compared with bounds, drawn between, or shown")]
            Content::Scalar(Scalar::Whole(whole)) => Some(whole as f64),
            Content::Scalar(Scalar::Number(number)) => Some(number),
            _ => None,
        }
    }
}

impl Content {
    /// As a message shows it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Scalar(scalar) => scalar.shown(),
            Self::List(items) if items.is_empty() => "an empty list".to_owned(),
            Self::List(items) => match items.iter().map(Node::number).collect::<Option<Vec<f64>>>() {
                Some(numbers) if numbers.len() <= 4 => format!("{numbers:?}"),
                _ => "a list".to_owned(),
            },
            Self::Map(_) => "a mapping".to_owned(),
            Self::Refused => "what stands here".to_owned(),
        }
    }
}

impl Scalar {
    fn shown(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Flag(flag) => flag.to_string(),
            Self::Whole(whole) => whole.to_string(),
            Self::Number(number) if number.is_nan() => ".nan".to_owned(),
            Self::Number(number) if number.is_infinite() => {
                if *number < 0.0 {
                    "-.inf".to_owned()
                } else {
                    ".inf".to_owned()
                }
            }
            Self::Number(number) => format!("{number:?}"),
            Self::Text(text) if text.chars().count() > 40 => {
                format!("{:?}…", text.chars().take(40).collect::<String>())
            }
            Self::Text(text) => format!("{text:?}"),
        }
    }
}
