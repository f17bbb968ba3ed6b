//! Keys are kept as they should be, and signatures are of one package by one key.

use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

#[test]
fn a_key_reads_back_from_its_files_and_only_its_owner_can_read_the_private_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mine");
    let key = SecretKey::generate();
    let public = key.save(&path).expect("it is written");
    assert_eq!(public, folder.path().join("mine.pub"));
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(SecretKey::load(&path).expect("it reads back").public(), key.public());
    assert_eq!(PublicKey::load(&public).expect("it reads back"), key.public());
}

#[test]
fn a_key_is_never_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mine");
    SecretKey::generate().save(&path).expect("it is written");
    let before = fs::read(&path).expect("read");
    assert!(matches!(SecretKey::generate().save(&path), Err(KeyFileError::Exists { .. })));
    fs::remove_file(folder.path().join("mine.pub")).expect("removed");
    assert!(matches!(SecretKey::generate().save(&path), Err(KeyFileError::Exists { .. })));
    assert_eq!(fs::read(&path).expect("read"), before);
}

#[test]
fn a_private_key_that_others_can_read_is_not_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mine");
    SecretKey::generate().save(&path).expect("it is written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changed");
    let error = SecretKey::load(&path).expect_err("it is refused");
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[test]
fn what_is_no_key_is_told_with_its_file_and_never_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mine");
    for text in ["", "hunter2", "odeum-secret-key:AAAA", "ed25519:AAAA"] {
        fs::write(&path, text).expect("written");
        let error = SecretKey::load(&path).expect_err("it is refused").to_string();
        assert!(error.contains("mine") && !error.contains("hunter2"), "{error}");
    }
    let key = SecretKey::generate();
    key.save(&folder.path().join("other")).expect("it is written");
    let secret = fs::read_to_string(folder.path().join("other")).expect("read");
    assert!(!format!("{key:?}").contains(secret.trim().trim_start_matches("odeum-secret-key:")));
}

#[test]
fn a_signature_is_of_one_package_by_one_key() {
    let (key, other) = (SecretKey::generate(), SecretKey::generate());
    let (digest, another) = (Digest::of(b"a"), Digest::of(b"b"));
    let signature = key.sign(digest);
    assert!(signature.is_of(digest) && !signature.is_of(another));
    let claimed = Signature { key: other.public(), ..signature };
    assert!(!claimed.is_of(digest));
}

#[test]
fn what_is_signed_for_something_else_is_no_signature_of_a_package() {
    let key = SecretKey::generate();
    let digest = Digest::of(b"a");
    let bare = key.0.sign(digest.as_bytes()).to_bytes();
    let claimed = Signature { key: key.public(), signature: SignatureBytes(bare) };
    assert!(!claimed.is_of(digest));
}

#[test]
fn keys_for_which_anybody_can_sign_are_no_keys() {
    // The neutral element and a point of order 2.
    for bytes in [
        {
            let mut one = [0; 32];
            one[0] = 1;
            one
        },
        [0; 32],
    ] {
        let text = format!("ed25519:{}", BASE64_URL_SAFE_NO_PAD.encode(bytes));
        assert!(text.parse::<PublicKey>().is_err(), "{text}");
    }
}

#[test]
fn what_is_printed_can_be_typed_back() {
    let public = SecretKey::generate().public();
    assert_eq!(public.to_string().parse(), Ok(public.clone()));
    assert_eq!(public.id().to_string().len(), 16);
    for bad in ["", "ed25519:", "rsa:AAAA", &public.to_string()[..50]] {
        let error = bad.parse::<PublicKey>().expect_err("it is refused").to_string();
        assert!(error.contains("odeum package keygen"), "{error}");
    }
}
