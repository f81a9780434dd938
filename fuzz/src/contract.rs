//! The contracts as a table, and messages made up from it: every field that there is, with values that may be meant.

use crate::dice::Dice;
use std::collections::BTreeMap;

/// Messages within each other.
const DEPTH_MAX: usize = 6;

/// All messages and methods of the contracts.
#[derive(Debug)]
pub struct Contract {
    messages: BTreeMap<&'static str, Vec<Field>>,
    /// In their order.
    pub methods: Vec<Method>,
}

/// A call.
#[derive(Clone, Debug)]
pub struct Method {
    /// `/alpharho.v1.Sweeps/Submit`
    pub path: &'static str,
    /// Whoever calls sends many messages.
    pub is_stream: bool,
    /// What is sent, by its full name with a dot before it.
    pub input: &'static str,
}

#[derive(Debug)]
struct Field {
    number: u64,
    name: &'static str,
    kind: Kind,
    is_many: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Varint,
    Double,
    Text,
    Bytes,
    Message(&'static str),
}

/// What a text may say, by the name of its field.
pub trait Words {
    /// One for that field.
    fn text(&self, field: &str, dice: &mut Dice) -> Vec<u8>;
}

impl Contract {
    /// As it was when this was built.
    ///
    /// # Panics
    /// When the table is not as `build.rs` writes it.
    #[must_use]
    #[expect(clippy::panic, reason = "written by our own build script")]
    pub fn read() -> Self {
        let mut contract = Self { messages: BTreeMap::new(), methods: Vec::new() };
        let mut message = "";
        for line in include_str!(concat!(env!("OUT_DIR"), "/contract.txt")).lines() {
            let words: Vec<&'static str> = line.split(' ').collect();
            match words[..] {
                ["message", name] => {
                    message = name;
                    contract.messages.insert(name, Vec::new());
                }
                ["field", number, name, kind, many, of] => {
                    let kind = match kind {
                        "double" => Kind::Double,
                        "string" => Kind::Text,
                        "bytes" => Kind::Bytes,
                        "message" => Kind::Message(of),
                        _ => Kind::Varint,
                    };
                    let number = number.parse().unwrap_or_default();
                    let field = Field { number, name, kind, is_many: many == "many" };
                    contract.messages.entry(message).or_default().push(field);
                }
                ["method", path, many, input] => {
                    contract.methods.push(Method { path, is_stream: many == "stream", input });
                }
                _ => panic!("{line:?} is not understood"),
            }
        }
        contract
    }

    /// Names of all messages, with a dot before them.
    pub fn messages(&self) -> impl Iterator<Item = &'static str> {
        self.messages.keys().copied()
    }

    /// Makes one up, as it travels.
    pub fn make_up(&self, message: &str, words: &dyn Words, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.put(message, words, dice, 0, &mut bytes);
        bytes
    }

    fn put(&self, message: &str, words: &dyn Words, dice: &mut Dice, depth: usize, bytes: &mut Vec<u8>) {
        let Some(fields) = self.messages.get(message) else { return };
        // Of a message that can be one of many things, few fields; of others, most.
        let is_sparse = fields.len() > 5 && dice.one_in(2);
        for field in fields {
            let is_left_out = if is_sparse { !dice.one_in(4) } else { dice.one_in(8) };
            if is_left_out || depth > DEPTH_MAX {
                continue;
            }
            let times = match (field.is_many, dice.below(40)) {
                (true, 0) => 200,
                (true, _) => dice.below(4),
                (false, 0) => 2,
                (false, _) => 1,
            };
            for _ in 0..times {
                self.put_field(field, words, dice, depth, bytes);
            }
        }
        if dice.one_in(30) {
            // Nobody knows it.
            put_tag(15 + dice.number() % 20_000, 0, bytes);
            put_varint(dice.number(), bytes);
        }
    }

    fn put_field(&self, field: &Field, words: &dyn Words, dice: &mut Dice, depth: usize, bytes: &mut Vec<u8>) {
        if dice.one_in(100) {
            // Of another kind than it should be: a number where there is text, or what was to be a message.
            put_tag(field.number, dice.next() % 8, bytes);
            return put_varint(dice.number(), bytes);
        }
        match field.kind {
            Kind::Varint => {
                put_tag(field.number, 0, bytes);
                put_varint(dice.number(), bytes);
            }
            Kind::Double => {
                put_tag(field.number, 1, bytes);
                bytes.extend(dice.float().to_le_bytes());
            }
            Kind::Text | Kind::Bytes => put_block(field.number, &words.text(field.name, dice), dice, bytes),
            Kind::Message(name) => {
                let mut inner = Vec::new();
                self.put(name, words, dice, depth + 1, &mut inner);
                put_block(field.number, &inner, dice, bytes);
            }
        }
    }
}

fn put_tag(number: u64, wire_type: u64, bytes: &mut Vec<u8>) {
    put_varint(number << 3 | wire_type, bytes);
}

fn put_block(number: u64, block: &[u8], dice: &mut Dice, bytes: &mut Vec<u8>) {
    put_tag(number, 2, bytes);
    // At times it says that it is of another length.
    let said = if dice.one_in(300) { dice.number() } else { block.len() as u64 };
    put_varint(said, bytes);
    bytes.extend_from_slice(block);
}

fn put_varint(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push((number & 0x7F) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use proto::wire;

    struct Plain;

    impl Words for Plain {
        fn text(&self, field: &str, _: &mut Dice) -> Vec<u8> {
            field.as_bytes().to_vec()
        }
    }

    #[test]
    fn most_of_what_is_made_up_is_read_and_says_something() {
        let contract = Contract::read();
        let mut whole = 0;
        for index in 0..1_000 {
            let bytes = contract.make_up(".alpharho.v1.Register", &Plain, &mut Dice::of(1, index));
            let read = wire::Register::decode(&bytes[..]);
            whole += u32::from(read.is_ok_and(|read| read.host == "host" && !read.slots.is_empty()));
        }
        assert!(whole > 150, "{whole}");
        assert!(contract.methods.len() >= 23 && contract.methods.iter().any(|method| method.path.ends_with("/Push")));
    }
}
