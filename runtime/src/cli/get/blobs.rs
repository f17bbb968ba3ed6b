//! `odeum get blobs`: packages and other bytes that are kept on several nodes.

use super::super::out::{cell, table};
use super::SHORT_DIGEST;
use crate::{
    api::types::{BlobPage, BlobSummary},
    config::ByteSize,
};

/// Owners of a blob that a table names; `-o json` shows all.
const SHORT_OWNERS: usize = 3;

/// The blobs as a table.
pub(super) fn table_of(page: &BlobPage) -> String {
    table(["DIGEST", "SIZE", "HOLDERS", "OWNERS"], page.blobs.iter().map(row))
}

/// What the asked node has on its disk, in a sentence.
pub(super) fn note_of(page: &BlobPage) -> String {
    let (here, size) = (&page.here, |bytes| ByteSize(bytes).rounded());
    format!(
        "{} has {} of them on its disk, {} of it copies, at most {}",
        page.node,
        size(here.bytes),
        size(here.copies_bytes),
        size(here.quota_bytes)
    )
}

fn row(blob: &BlobSummary) -> [Option<String>; 4] {
    let named = |names: &mut dyn Iterator<Item = String>| names.collect::<Vec<_>>().join(",");
    let mut owners = named(&mut blob.owners.iter().take(SHORT_OWNERS).map(ToString::to_string));
    if let more @ 1.. = blob.owners.len().saturating_sub(SHORT_OWNERS) {
        owners.push_str(&format!(" and {more} more"));
    }
    [
        cell(blob.digest.to_string().get(..SHORT_DIGEST).unwrap_or_default()),
        cell(ByteSize(blob.size).rounded()),
        cell(named(&mut blob.holders.iter().map(ToString::to_string))),
        (!owners.is_empty()).then_some(owners),
    ]
}

#[cfg(test)]
mod tests {
    use odeum_proto::Digest;

    use super::*;
    use crate::api::types::BlobUsage;

    #[test]
    fn a_blob_is_shown_with_its_holders_and_the_first_of_its_owners() {
        let valid = |text: &str| text.parse().expect("valid");
        let blob = BlobSummary {
            digest: Digest::of(b"package"),
            size: 4_096,
            holders: vec![valid_node("n1"), valid_node("n3")],
            owners: ["package/a", "package/b", "package/c", "package/d", "package/e"]
                .map(valid)
                .into(),
        };
        let unowned = BlobSummary { owners: vec![], ..blob.clone() };
        let page = BlobPage {
            node: valid_node("n1"),
            here: BlobUsage { files: 2, bytes: 8_192, ..BlobUsage::default() },
            blobs: vec![blob, unowned],
            next: None,
        };
        let text = table_of(&page);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("4.0 KiB") && lines[1].contains("n1,n3"), "{text}");
        assert!(lines[1].ends_with("package/a,package/b,package/c and 2 more"), "{text}");
        assert!(lines[2].trim_end().ends_with('-'), "{text}");
        assert!(note_of(&page).starts_with("n1 has 8.0 KiB of them on its disk, 0 B"));
    }

    fn valid_node(name: &str) -> odeum_proto::NodeId {
        name.parse().expect("valid")
    }
}
