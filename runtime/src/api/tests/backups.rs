//! Backups over HTTP: of any length, and never half taken for whole.

use std::io::{Seek as _, Write as _};

use reqwest::{Method, StatusCode};

use super::{ApiError, Served, limits};

#[tokio::test]
async fn a_backup_that_the_node_cannot_finish_has_no_end() {
    let served = Served::start().await;
    let mut backup = served.client.backup().await.expect("begun");
    let first = backup.next().await.expect("something").expect("no end");
    assert_eq!(first, "the beginning");
    let error = backup.next().await.expect_err("it was cut off");
    assert!(matches!(error, ApiError::NoAnswer { .. }), "{error}");
}

#[tokio::test]
async fn a_backup_to_be_restored_may_be_larger_than_anything_else_and_is_not_kept_in_memory() {
    let served = Served::start().await;
    let length = 3 * limits::PACKAGE_BYTES as u64 / 2;
    let mut file = tempfile::tempfile().expect("made");
    file.set_len(length).expect("grown");
    file.write_all(b"some").and_then(|()| file.rewind()).expect("written");
    match served.client.restore(file, length).await {
        Err(ApiError::Refused { status: 422, code, message, retryable: false }) => {
            assert_eq!((&*code, &*message), ("bad-backup", &*format!("{length} bytes are none")));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_store_as_a_whole_has_paths_of_its_own() {
    let served = Served::start().await;
    assert!(served.client.compact().await.expect("done").replicas.is_empty());
    for (method, path) in [
        (Method::POST, "/v1/store/backup"),
        (Method::GET, "/v1/store/restore"),
        (Method::GET, "/v1/store/compact"),
    ] {
        let (status, ..) = served.refused(method, path, vec![]).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    let (status, body, _) = served.refused(Method::POST, "/v1/store/restore", vec![1; 9]).await;
    assert_eq!((status, &*body.error), (422, "bad-backup"));
}
