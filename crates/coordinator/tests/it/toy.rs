//! A shard that keeps numbers under names.

use std::collections::BTreeMap;

use milena_base::{ErrorCode, Offset};
use milena_coordinator::{KeyValue, Shard, Token, Turn, Write};

#[derive(Debug, Default)]
pub struct Toy {
    numbers: BTreeMap<String, i64>,
    kept: Vec<Token>,
    pub failures: Vec<ErrorCode>,
}

#[derive(Debug)]
pub enum Ask {
    Put(&'static str, i64),
    Add(&'static str, i64),
    PutAll(Vec<(&'static str, i64)>, bool),
    PutThenAdd(&'static str, i64),
    Unwritable,
    Get(&'static str),
    Newest(&'static str),
    Alarm(u64),
    Keep,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Value(Option<i64>),
    Failed(ErrorCode),
}

pub fn record(key: &str, value: i64) -> KeyValue {
    KeyValue {
        key: key.as_bytes().to_vec().into(),
        value: Some(value.to_be_bytes().to_vec().into()),
    }
}

type Put = (String, i64);

fn put(key: &str, value: i64) -> Put {
    (key.to_string(), value)
}

impl Shard for Toy {
    type Request = Ask;
    type Response = Answer;
    type Record = Put;
    type Timer = &'static str;
    type After = String;
    type Snapshot = BTreeMap<String, i64>;

    fn request(&mut self, token: Token, ask: Ask, turn: &mut Turn<'_, Toy>) -> Option<Write<Toy>> {
        let write = match ask {
            Ask::Put(key, value) => Write::new(vec![put(key, value)]),
            Ask::Add(key, value) => {
                let sum = self.numbers.get(key).unwrap_or(&0) + value;
                Write::new(vec![put(key, sum)])
            }
            Ask::PutAll(pairs, divisible) => {
                let write = Write::new(pairs.iter().map(|(k, v)| put(k, *v)).collect());
                if divisible { write.divisible() } else { write }
            }
            Ask::PutThenAdd(key, value) => Write::new(vec![put(key, value)]).after(key.to_string()),
            Ask::Unwritable => Write::new(vec![put("unwritable", 0)]),
            Ask::Get(key) => {
                let value = turn.committed.get(key).copied();
                turn.reply(token, Answer::Value(value));
                return None;
            }
            Ask::Newest(key) => {
                let value = Answer::Value(self.numbers.get(key).copied());
                return Some(Write::new(Vec::new()).answer(token, value));
            }
            Ask::Alarm(at) => {
                turn.schedule("alarm", milena_base::Instant::from_millis(at));
                return None;
            }
            Ask::Keep => {
                self.kept.push(token);
                return None;
            }
        };
        Some(write.answer(token, Answer::Done))
    }

    fn timer(&mut self, timer: &'static str, _: &mut Turn<'_, Toy>) -> Option<Write<Toy>> {
        Some(Write::new(vec![put(timer, 1)]))
    }

    fn after(
        &mut self,
        key: String,
        result: Result<(), ErrorCode>,
        _: &mut Turn<'_, Toy>,
    ) -> Option<Write<Toy>> {
        match result {
            Ok(()) => Some(Write::new(vec![put(&key, self.numbers[&key] + 1)])),
            Err(error) => {
                self.failures.push(error);
                None
            }
        }
    }

    fn replay(&mut self, _: Offset, _: i64, (key, value): Put) {
        self.numbers.insert(key, value);
    }

    fn end_transaction(&mut self, _: i64, _: bool) {}

    fn loaded(&mut self, _: &mut Turn<'_, Toy>) -> Option<Write<Toy>> {
        None
    }

    fn unloaded(&mut self) -> Vec<(Token, Answer)> {
        let gone = Answer::Failed(ErrorCode::NotCoordinator);
        self.kept
            .drain(..)
            .map(|token| (token, gone.clone()))
            .collect()
    }

    fn snapshot(&self) -> BTreeMap<String, i64> {
        self.numbers.clone()
    }

    fn encode((key, value): &Put) -> Result<KeyValue, String> {
        match key.as_str() {
            "unwritable" => Err("too long".to_string()),
            key => Ok(record(key, *value)),
        }
    }

    fn decode(record: KeyValue) -> Result<Option<Put>, String> {
        let key = String::from_utf8(record.key.to_vec()).map_err(|error| error.to_string())?;
        let value = record.value.as_deref().and_then(|v| v.try_into().ok());
        let value = value.map(i64::from_be_bytes);
        Ok(value.map(|value| (key, value)))
    }

    fn refused(_: Ask, error: ErrorCode) -> Answer {
        Answer::Failed(error)
    }

    fn failed(_: Answer, error: ErrorCode) -> Answer {
        Answer::Failed(error)
    }
}
