//! Flags of `kafka-dump-log`.

use crate::options::{HELP, Spec, VERSION, switch, value};

const STRING_DECODER: &str = "org.apache.kafka.tools.api.StringDecoder";

pub const SPEC: Spec = Spec {
    about: "Shows what is in the files of a log: segments, snapshots and indexes.",
    flags: &[
        HELP,
        VERSION,
        switch("print-data-log", "Show the records' keys and values."),
        switch(
            "verify-index-only",
            "Check an index against its log and show only what differs.",
        ),
        switch(
            "index-sanity-check",
            "Check an index as a broker does when it starts.",
        ),
        value(
            "files",
            "file1, file2, ...",
            "REQUIRED: the files, separated by commas.",
        ),
        value(
            "max-message-size",
            "size",
            "Taken and ignored: batches are read whole.",
        )
        .or("5242880"),
        value("max-bytes", "size", "Bytes of a segment to read.").or("2147483647"),
        switch("deep-iteration", "Show each record, not only the batches."),
        value(
            "value-decoder-class",
            "class",
            "Kafka's decoder of values: String-, Integer-, Long- or DefaultDecoder.",
        )
        .or(STRING_DECODER)
        .optional(),
        value(
            "key-decoder-class",
            "class",
            "Kafka's decoder of keys, likewise.",
        )
        .or(STRING_DECODER)
        .optional(),
        switch(
            "offsets-decoder",
            "Show records of __consumer_offsets as JSON.",
        ),
        switch(
            "transaction-log-decoder",
            "Show records of __transaction_state as JSON.",
        ),
        switch(
            "cluster-metadata-decoder",
            "Show records of __cluster_metadata as JSON.",
        ),
        switch("remote-log-metadata-decoder", "Not built yet."),
        switch(
            "share-group-state-decoder",
            "Show records of __share_group_state as JSON.",
        ),
        switch(
            "skip-record-metadata",
            "Leave offsets, sizes and the like of records out.",
        ),
    ],
};
