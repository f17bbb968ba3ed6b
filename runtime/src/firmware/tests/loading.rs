//! How packages come to a node.

use std::time::Duration;

use futures::future::join_all;
use odeum_proto::Digest;

use super::COUNTER;
use super::stage::Stage;
use crate::firmware::CacheError;

#[tokio::test]
async fn many_who_load_one_package_cause_one_fetch() {
    let stage = Stage::new().await;
    let digest = Digest::of(COUNTER);
    stage.peers.give(digest, COUNTER);
    let loaded = join_all((0..16).map(|_| stage.handle.cache.load(digest))).await;
    assert!(loaded.iter().all(|module| module.as_ref().is_ok_and(|m| m.digest() == digest)));
    assert_eq!(stage.peers.asked(), 1);
    stage.handle.cache.load(digest).await.expect("is there");
    assert_eq!(stage.peers.asked(), 1);
}

#[tokio::test]
async fn a_peer_that_sends_other_bytes_is_found_out() {
    let stage = Stage::new().await;
    let digest = Digest::of(COUNTER);
    stage.peers.give(digest, b"\0asm\x01\0\0\0");
    let error = stage.handle.cache.load(digest).await.expect_err("is refused");
    assert!(matches!(error, CacheError::OtherDigest { claimed, .. } if claimed == digest));
    stage.peers.give(digest, COUNTER);
    stage.handle.cache.load(digest).await.expect("is fetched again");
}

#[tokio::test]
async fn a_package_nobody_has_is_an_error_that_says_so() {
    let stage = Stage::new().await;
    let error = stage.handle.cache.load(Digest::of(b"nothing")).await.expect_err("is missing");
    assert!(error.is_retryable());
    assert!(error.to_string().ends_with("none of 1 other nodes has it"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_firmware_is_refused_and_one_that_is_needs_no_fetch() {
    let stage = Stage::new().await;
    let error = stage.handle.cache.check(b"(module)"[..].into()).await.expect_err("is refused");
    assert!(error.to_string().contains("fits no ABI"), "{error}");
    let package = stage.handle.cache.check(COUNTER.into()).await.expect("it can run");
    assert_eq!((package.digest, &package.wasm[..]), (Digest::of(COUNTER), COUNTER));
    stage.handle.cache.load(package.digest).await.expect("is in memory");
    assert_eq!(stage.peers.asked(), 0);
}

#[tokio::test]
async fn what_is_deployed_elsewhere_is_at_hand_here_before_it_is_needed() {
    let stage = Stage::new().await;
    let digest = Digest::of(COUNTER);
    stage.peers.give(digest, COUNTER);
    stage.apply_spec("counter", digest);
    stage.place("counter", "n2");
    let end = std::time::Instant::now() + super::stage::PATIENCE;
    while stage.peers.asked() == 0 {
        assert!(std::time::Instant::now() < end, "it is not fetched");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stage.handle.cache.load(digest).await.expect("is there");
    assert_eq!(stage.peers.asked(), 1);
}
