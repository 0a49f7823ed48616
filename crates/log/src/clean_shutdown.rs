//! The marker of a clean stop: while it is there, nothing in the directory needs recovery. It holds the broker's
//! epoch, by which the broker shows at its next registration that it lost nothing (KIP-966).

use crate::error::Malformed;

/// Name of the file, in each log directory.
pub const FILE: &str = ".kafka_cleanshutdown";

/// The file's text.
pub fn format(broker_epoch: i64) -> String {
    format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}")
}

/// The broker's epoch in the file. Kafka before 3.8 wrote an empty file, which has none.
pub fn parse(text: &str) -> Result<i64, Malformed> {
    let key = "\"brokerEpoch\"";
    let malformed = || Malformed(format!("no broker epoch in {text:?}"));
    let (_, rest) = text.split_once(key).ok_or_else(malformed)?;
    let rest = rest
        .trim_start()
        .strip_prefix(':')
        .ok_or_else(malformed)?
        .trim_start();
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '-')
        .unwrap_or(rest.len());
    rest[..end].parse().map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_is_read_back() {
        assert_eq!(format(17), r#"{"version":0,"brokerEpoch":17}"#);
        assert_eq!(parse(&format(17)), Ok(17));
        assert_eq!(parse(r#"{ "brokerEpoch" : -1, "version" : 0 }"#), Ok(-1));
        for text in ["", "{}", r#"{"brokerEpoch":"x"}"#, r#"{"brokerEpoch"}"#] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
