//! A node's directories to and fro between Milena and Apache Kafka. In each life one of the two starts on what the
//! other left, must show what the other showed (every record, every committed offset, topics and their configs), writes
//! more and ends, cleanly or killed; then `kafka-dump-log` reads every file.

mod dump;
mod life;

use super::place::{Place, Quorum};
use super::server::{End, Maker};
use super::tool_host::ToolHost;
use life::Story;

/// The release whose tools look and write (4.4.0 comes without tools).
const TOOLS: &str = "4.3.1";

use End::{Clean, Killed};
use Maker::{Kafka, Milena};

/// Who formats is who lives first.
const STORIES: &[(Quorum, &[(Maker, End)])] = &[
    (
        Quorum::StaticVoters,
        &[
            (Milena, Clean),
            (Milena, Killed),
            (Kafka, Clean),
            (Milena, Clean),
        ],
    ),
    (
        Quorum::Standalone,
        &[
            (Milena, Killed),
            (Milena, Clean),
            (Kafka, Killed),
            (Milena, Clean),
        ],
    ),
    (
        Quorum::StaticVoters,
        &[(Kafka, Clean), (Milena, Killed), (Kafka, Clean)],
    ),
    (
        Quorum::Standalone,
        &[(Kafka, Killed), (Milena, Clean), (Kafka, Clean)],
    ),
];

pub fn run() -> Result<(), String> {
    let mut tools = ToolHost::start(TOOLS)?;
    for (quorum, lives) in STORIES {
        println!("  {quorum:?}, formatted by {:?}", lives[0].0);
        let place = Place::new(*quorum)?;
        place.format(lives[0].0)?;
        let mut story = Story::new(&place, &mut tools);
        for (maker, end) in *lives {
            let told = story.live(*maker, *end);
            told.map_err(|why| format!("{quorum:?}, life {} ({maker:?}): {why}", story.life))?;
        }
    }
    println!("  {} tools ran", tools.invocations);
    Ok(())
}
