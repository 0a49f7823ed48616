//! Times as the reset flags take them: `2020-01-31T12:00:00.000`, and ISO 8601 durations.

use regex_lite::Regex;

const DAY_MS: i64 = 86_400_000;

/// Milliseconds since 1970 of `YYYY-MM-DDThh:mm:ss.sss`, in UTC or with a zone (`Z`, `+hh`, `+hh:mm`) behind it.
/// The error is what Kafka's tool says.
pub fn datetime(text: &str) -> Result<i64, String> {
    let Some((_, time)) = text.split_once('T') else {
        return Err(
            "Error parsing timestamp. It does not contain a 'T' according to ISO8601 format".into(),
        );
    };
    let zoned = time.contains(['+', '-', 'Z']);
    let text = format!("{text}{}", if zoned { "" } else { "Z" });
    parsed(&text).ok_or_else(|| format!("Unparseable date: \"{text}\""))
}

fn parsed(text: &str) -> Option<i64> {
    let shape =
        Regex::new(r"^(\d+)-(\d+)-(\d+)T(\d+):(\d+):(\d+)\.(\d+)(?:Z|([+-])(\d\d)(?::(\d\d))?)")
            .expect("it is well formed");
    let found = shape.captures(text)?;
    let number = |at: usize| -> Option<i64> { found.get(at)?.as_str().parse().ok() };
    let (year, month, day) = (number(1)?, number(2)?, number(3)?);
    let (hours, minutes, seconds, millis) = (number(4)?, number(5)?, number(6)?, number(7)?);
    let in_day = hours < 24 && minutes < 60 && seconds < 60 && millis < 1000;
    if !in_day || !(1..=9_999_999).contains(&year) || !(1..=days_of(year, month)?).contains(&day) {
        return None;
    }
    let offset = number(9).unwrap_or(0) * 60 + number(10).unwrap_or(0);
    let east = found.get(8).is_none_or(|sign| sign.as_str() == "+");
    let offset_ms = offset * 60_000 * if east { 1 } else { -1 };
    let of_day = ((hours * 60 + minutes) * 60 + seconds) * 1000 + millis;
    Some(days_since_1970(year, month, day) * DAY_MS + of_day - offset_ms)
}

fn days_of(year: i64, month: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    Some(match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    })
}

/// Days of the Gregorian calendar (years begin in March inside).
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Milliseconds of `PnDTnHnMn.nS`; each part may be left out and have a sign. The error is what Kafka's tool says.
pub fn duration(text: &str) -> Result<i64, String> {
    let shape = Regex::new(
        r"^(?i)([+-])?P(?:([+-]?\d+)D)?(T(?:([+-]?\d+)H)?(?:([+-]?\d+)M)?(?:([+-]?\d+)(?:[.,](\d{0,9}))?S)?)?$",
    )
    .expect("it is well formed");
    let wrong = || "Text cannot be parsed to a Duration".to_string();
    let found = shape.captures(text).ok_or_else(wrong)?;
    let part = |at: usize| found.get(at).map(|part| part.as_str());
    let given = [2, 4, 5, 6].iter().any(|at| part(*at).is_some());
    if !given || part(3).is_some_and(|time| time.len() == 1) {
        return Err(wrong());
    }
    let number = |at: usize, unit: i64| {
        let number: i64 = part(at).unwrap_or("0").parse().ok()?;
        number.checked_mul(unit)
    };
    let whole = [(2, DAY_MS), (4, 3_600_000), (5, 60_000), (6, 1000)];
    let mut millis = whole.iter().try_fold(0_i64, |sum, (at, unit)| {
        sum.checked_add(number(*at, *unit)?)
    });
    if let Some(fraction) = part(7) {
        let thousandths: i64 = format!("{fraction:0<3}")[..3].parse().unwrap_or(0);
        let below = part(6).is_some_and(|seconds| seconds.starts_with('-'));
        millis =
            millis.and_then(|ms| ms.checked_add(if below { -thousandths } else { thousandths }));
    }
    let millis = millis.ok_or_else(wrong)?;
    Ok(if part(1) == Some("-") {
        -millis
    } else {
        millis
    })
}
