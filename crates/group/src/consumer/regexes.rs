//! Subscriptions by regular expression: which topics they stand for is looked at when one is new, when topics were
//! created, and now and then. It is a decision of its own, after the one that asked for it is committed.

use std::collections::BTreeSet;
use std::sync::Arc;

use milena_base::{ErrorCode, Now};
use milena_protocol::{ConsumerGroupRegularExpressionValue, Str};

use crate::consumer::group::{ConsumerGroup, Resolved, count_regex};
use crate::consumer::heartbeat::Change;
use crate::consumer::member::ConsumerMember;
use crate::consumer::regex::Regex;
use crate::consumer::{Refusal, Turn, Write, refuse};
use crate::record::ConsumerRecord;
use crate::shard::{Group, GroupShard};

/// Least time between two looks at the topics for one group.
const REFRESH_INTERVAL_MS_MIN: i64 = 10_000;

/// What a member's change means for its regular expression.
#[derive(Default)]
pub(crate) struct RegexUpdate {
    pub(crate) changed: bool,
    /// It changed, and what the new one stands for is known.
    pub(crate) resolved: bool,
}

impl GroupShard {
    /// # Errors
    /// `INVALID_REGULAR_EXPRESSION` for one that is new to the group and no regular expression.
    pub(crate) fn update_regexes(
        &mut self,
        change: &mut Change,
        old: &ConsumerMember,
        new: &ConsumerMember,
        now: Now,
    ) -> Result<RegexUpdate, Refusal> {
        let group = change.group.clone();
        let mut update = RegexUpdate::default();
        let mut required = false;
        if old.regex != new.regex {
            update.changed = true;
            let was = old.subscribed_regex();
            if let Some(was) = was.filter(|was| group.regexes.get(*was) == Some(&1)) {
                let record = ConsumerRecord::Regex(was.clone(), None);
                change.records.push(group.record(record));
            }
            match new.subscribed_regex() {
                Some(regex) if !group.regexes.contains_key(regex) => {
                    check(regex)?;
                    required = true;
                }
                Some(regex) => update.resolved = group.resolved.contains_key(regex),
                None => update.resolved = was.is_some(),
            }
        }
        if required || !group.regexes.is_empty() {
            change.resolve = self.due_regexes(&group, old, new, required, now);
        }
        Ok(update)
    }

    fn due_regexes(
        &mut self,
        group: &ConsumerGroup,
        old: &ConsumerMember,
        new: &ConsumerMember,
        required: bool,
        now: Now,
    ) -> Option<BTreeSet<Str>> {
        if self.watch.resolving.contains(&group.id) {
            return None;
        }
        let now = now.wall.0;
        let some = group.resolved.values().next();
        let last = some.map_or(i64::MIN, |some| some.timestamp);
        if now <= last.saturating_add(REFRESH_INTERVAL_MS_MIN) {
            return None;
        }
        let regexes = group.regexes_with(Some(old), Some(new));
        let interval = i64::from(self.config.consumer.regex_refresh_interval_ms);
        let due = required
            || regexes.len() != group.resolved.len()
            || some.map_or(0, |some| some.version) < self.watch.newest_topics
            || now > last.saturating_add(interval);
        if !due || regexes.is_empty() {
            return None;
        }
        Some(regexes.keys().cloned().collect())
    }

    /// Looks at all topics, and writes what the regular expressions stand for now.
    pub(crate) fn resolve_regexes(
        &mut self,
        group_id: &Str,
        regexes: &BTreeSet<Str>,
        result: Result<(), ErrorCode>,
        turn: &mut Turn<'_>,
    ) -> Option<Write> {
        self.watch.resolving.remove(group_id);
        result.ok()?;
        let Some(Group::Consumer(group)) = self.groups.get(group_id) else {
            return None;
        };
        let group = group.clone();
        let mut records = Vec::new();
        let mut subscriptions = group.subscriptions.clone();
        let mut bump = false;
        let names = self.topics.names();
        let version = self.topics.version();
        for regex in regexes
            .iter()
            .filter(|regex| group.regexes.contains_key(*regex))
        {
            let new = Resolved {
                topics: Arc::new(matching(regex, &names)),
                version,
                timestamp: turn.now.wall.0,
            };
            let old = group.resolved.get(regex).cloned().unwrap_or_default();
            if old.topics != new.topics {
                bump = true;
                count_regex(&mut subscriptions, &old.topics, false);
                count_regex(&mut subscriptions, &new.topics, true);
            }
            let record = ConsumerRecord::Regex(regex.clone(), Some(new));
            records.push(group.record(record));
        }
        let hash = self.metadata_hash(&subscriptions);
        if bump || hash != group.metadata_hash {
            let epoch = group.epoch + 1;
            records.push(group.epoch_record(epoch, hash));
            self.mark_fresh(group_id, epoch, turn.now);
        }
        Some(Write::new(records))
    }
}

fn check(regex: &str) -> Result<(), Refusal> {
    match Regex::parse(regex) {
        Ok(_) => Ok(()),
        Err(why) => refuse(
            ErrorCode::InvalidRegularExpression,
            format!("SubscribedTopicRegex `{regex}` is not a valid regular expression: {why}."),
        ),
    }
}

/// A regular expression that cannot be read any more matches nothing.
fn matching(regex: &str, names: &[Str]) -> BTreeSet<Str> {
    match Regex::parse(regex) {
        Ok(regex) => {
            let matching = names.iter().filter(|name| regex.matches(name));
            matching.cloned().collect()
        }
        Err(why) => {
            tracing::error!(regex, "a regular expression cannot be read: {why}");
            BTreeSet::new()
        }
    }
}

impl Resolved {
    pub(crate) fn from_record(value: ConsumerGroupRegularExpressionValue) -> Resolved {
        Resolved {
            topics: Arc::new(value.topics.iter().map(Str::detached).collect()),
            version: value.version,
            timestamp: value.timestamp,
        }
    }

    pub(crate) fn to_record(&self) -> ConsumerGroupRegularExpressionValue {
        ConsumerGroupRegularExpressionValue {
            topics: self.topics.iter().cloned().collect(),
            version: self.version,
            timestamp: self.timestamp,
        }
    }
}
