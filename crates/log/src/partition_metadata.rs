//! `partition.metadata`: the id of the topic that a partition's directory belongs to.

use milena_base::Uuid;

use crate::error::Malformed;

/// The file's text, without a line end behind the last line, as Kafka writes it.
pub fn format(topic_id: Uuid) -> String {
    format!("version: 0\ntopic_id: {topic_id}")
}

/// Reads the file. Later versions are taken as far as they look the same.
pub fn parse(bytes: &[u8]) -> Result<Uuid, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed("not UTF-8".into()))?;
    let mut lines = text.lines();
    let version = value_of(lines.next())?;
    if !version.parse::<i32>().is_ok_and(|version| version >= 0) {
        return Err(Malformed(format!("unknown version {version:?}")));
    }
    let id = value_of(lines.next())?;
    match id.parse::<Uuid>() {
        Ok(id) if !id.is_zero() => Ok(id),
        _ => Err(Malformed(format!("invalid topic id {id:?}"))),
    }
}

fn value_of(line: Option<&str>) -> Result<&str, Malformed> {
    let line = line.unwrap_or_default();
    let mut words = line.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(_), Some(value), None) => Ok(value),
        _ => Err(Malformed(format!("malformed line {line:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_read_back() {
        let id = Uuid([9; 16]);
        let text = format(id);
        assert!(text.starts_with("version: 0\ntopic_id: "), "{text}");
        assert!(!text.ends_with('\n'));
        assert_eq!(parse(text.as_bytes()), Ok(id));
    }

    #[test]
    fn damage_is_named() {
        let zero = format(Uuid::ZERO);
        for text in [
            "",
            "version: 0",
            "version: -1\ntopic_id: x",
            "version: 0\ntopic_id: x",
            &zero,
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
