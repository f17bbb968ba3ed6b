//! `odeum store compact`: how long the logs were and are.

use super::super::out::{cell, table};
use crate::{api::types::CompactReport, config::ByteSize};

pub(super) fn table_of(report: &CompactReport) -> String {
    table(
        ["NODE", "GROUP", "ENTRIES BEFORE", "ENTRIES AFTER", "SNAPSHOT", "LOG FILES", "ERROR"],
        report.replicas.iter().map(|replica| {
            let log = replica.log.as_ref();
            [
                cell(&replica.node),
                cell(replica.group),
                log.map(|log| log.entries_before.to_string()),
                log.map(|log| log.entries_after.to_string()),
                log.map(|log| ByteSize(log.snapshot_bytes).rounded()),
                log.map(|log| ByteSize(log.log_bytes).rounded()),
                replica.error.clone(),
            ]
        }),
    )
}
