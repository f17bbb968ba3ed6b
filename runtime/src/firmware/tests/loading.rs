//! How packages come to a node.

use std::time::Duration;

use futures::future::join_all;
use odeum_proto::{Digest, Name};

use super::COUNTER;
use super::stage::Stage;
use crate::{
    firmware::CacheError,
    package::{build, key::SecretKey},
};

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
    let name: Name = "counter".parse().expect("a name");
    let check =
        async |file: &'static [u8]| stage.handle.cache.check(name.clone(), file.into()).await;
    let error = check(b"(module)").await.expect_err("is refused");
    assert!(error.to_string().contains("fits no ABI"), "{error}");
    let package = check(COUNTER).await.expect("it can run");
    assert_eq!(package.digest, Digest::of(&package.file));
    assert_eq!(package.manifest.name, name);
    stage.handle.cache.load(package.digest).await.expect("is in memory");
    assert_eq!(stage.peers.asked(), 0);
}

#[tokio::test]
async fn a_package_is_checked_again_by_each_node_that_loads_it() {
    let stage = Stage::new().await;
    let name: Name = "counter".parse().expect("a name");
    let package = build::of_module(name, COUNTER.into()).expect("a package").package;
    let load = async |file: &[u8]| {
        let digest = Digest::of(file);
        stage.peers.give(digest, file);
        stage.handle.cache.load(digest).await
    };
    load(package.file()).await.expect("unsigned ones are allowed here");

    let key = SecretKey::generate();
    let signed = package.signed(key.sign(package.digest())).expect("signed");
    let error = load(signed.file()).await.expect_err("nobody trusts that key");
    assert!(matches!(error, CacheError::Refused(_)) && !error.is_retryable(), "{error}");

    let mut tampered = package.file().to_vec();
    let at = tampered.len() / 2;
    tampered[at] ^= 1;
    let error = load(&tampered).await.expect_err("it was tampered with");
    assert!(error.to_string().contains("is not what the index says"), "{error}");
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
