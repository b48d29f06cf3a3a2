//! Which certificates are taken, and how one of our own is made, kept and made anew.

use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;
use crate::clock::ManualClock;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)))
}

fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap()
}

fn open(dir: &Path, clock: &Arc<ManualClock>) -> Result<Tls, TlsError> {
    Tls::open(TlsFrom::Own(dir.to_owned()), Arc::clone(clock) as Arc<dyn Clock>)
}

#[test]
fn our_own_certificate_is_made_once_and_its_key_is_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    open(dir.path(), &clock).unwrap();
    let first = read(dir.path(), "web-certificate.pem");
    open(dir.path(), &clock).unwrap();
    assert_eq!(read(dir.path(), "web-certificate.pem"), first);
    for file in ["web-key.pem", "web-certificate.pem"] {
        let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn our_own_certificate_is_made_anew_before_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let tls = open(dir.path(), &clock).unwrap();
    let first = read(dir.path(), "web-certificate.pem");
    clock.advance(769 * DAY);
    drop(tls.current());
    assert_eq!(read(dir.path(), "web-certificate.pem"), first, "it lasts longer than that");
    clock.advance(2 * DAY);
    drop(tls.current());
    let second = read(dir.path(), "web-certificate.pem");
    assert_ne!(second, first);
    let renewed = tls.current();
    assert!(Arc::ptr_eq(&renewed, &tls.current()), "made once");
    open(dir.path(), &clock).unwrap();
    assert_eq!(read(dir.path(), "web-certificate.pem"), second);
}

#[test]
fn a_certificate_without_its_key_is_made_again_and_a_strange_one_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    open(dir.path(), &clock).unwrap();
    let first = read(dir.path(), "web-certificate.pem");
    std::fs::remove_file(dir.path().join("web-key.pem")).unwrap();
    open(dir.path(), &clock).unwrap();
    assert_ne!(read(dir.path(), "web-certificate.pem"), first);
    let strange = first.split_once('\n').unwrap().1;
    std::fs::write(dir.path().join("web-certificate.pem"), strange).unwrap();
    let error = open(dir.path(), &clock).unwrap_err();
    assert!(matches!(error, TlsError::NotOurs(_)), "{error}");
    assert_eq!(read(dir.path(), "web-certificate.pem"), strange);
}

#[test]
fn a_given_certificate_is_checked_against_its_key() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for dir in [&one, &other] {
        open(dir.path(), &clock()).unwrap();
    }
    let certificate = read(one.path(), "web-certificate.pem");
    let (key, stranger) = (read(one.path(), "web-key.pem"), read(other.path(), "web-key.pem"));
    given(Path::new("/x"), certificate.as_bytes(), key.as_bytes()).unwrap();
    for (certificate, key, expected) in [
        (certificate.as_str(), stranger.as_str(), "is not the key of the certificate"),
        (certificate.as_str(), certificate.as_str(), "holds no private key in PEM form"),
        (key.as_str(), key.as_str(), "holds no certificate in PEM form"),
        ("", key.as_str(), "holds no certificate in PEM form"),
        (certificate.as_str(), "", "holds no private key in PEM form"),
    ] {
        let error = given(Path::new("/x"), certificate.as_bytes(), key.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        assert!(!error.contains("BEGIN"), "{error}");
    }
}

/// A certificate of the operator's, good on the days from `begins` to `ends`, both of year, month and day.
fn issued(begins: (i32, u8, u8), ends: (i32, u8, u8)) -> TlsFrom {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(begins.0, begins.1, begins.2);
    params.not_after = date_time_ymd(ends.0, ends.1, ends.2);
    let certificate = params.self_signed(&key).unwrap().pem();
    given(Path::new("/etc/grantd/web.pem"), certificate.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
}

/// 15 January 2027, 8 hours UTC, as [`clock`] shows it.
fn good() -> TlsFrom {
    issued((2026, 12, 1), (2027, 12, 1))
}

#[test]
fn when_a_certificate_begins_and_ends_is_read_from_it() {
    for (begins, ends, secs) in [
        ((2026, 12, 1), (2027, 12, 1), (1_796_083_200, 1_827_619_200)),
        ((1970, 1, 1), (9999, 12, 31), (0, 253_402_214_400)),
    ] {
        let TlsFrom::Given(Given { chain, .. }) = issued(begins, ends) else { unreachable!() };
        assert_eq!((chain.begins.as_secs(), chain.ends.as_secs()), secs);
    }
}

#[test]
fn another_certificate_is_shown_from_the_next_handshake_on() {
    let clock = clock();
    let tls = Tls::open(good(), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let (first, other) = (tls.current(), good());
    assert!(tls.replace(other.clone()).unwrap());
    let second = tls.current();
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(!tls.replace(other).unwrap(), "it is the same");
    assert!(Arc::ptr_eq(&second, &tls.current()), "sessions of the same certificate can be resumed");

    let dir = tempfile::tempdir().unwrap();
    assert!(tls.replace(TlsFrom::Own(dir.path().to_owned())).unwrap());
    assert!(dir.path().join("web-certificate.pem").exists());
    clock.advance(771 * DAY);
    let made = read(dir.path(), "web-certificate.pem");
    drop(tls.current());
    assert_ne!(read(dir.path(), "web-certificate.pem"), made, "it is renewed like one that was there at the start");
}

#[test]
fn a_certificate_whose_time_is_not_now_does_not_take_the_place_of_another() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("web-certificate.pem"), "strange").unwrap();
    let tls = Tls::open(good(), clock()).unwrap();
    let shown = tls.current();
    for (from, expected) in [
        (
            issued((2026, 1, 1), (2027, 1, 1)),
            "the certificate in /etc/grantd/web.pem ended at 2027-01-01 00:00:00 UTC".to_owned(),
        ),
        (
            issued((2027, 2, 1), (2028, 1, 1)),
            "the certificate in /etc/grantd/web.pem is not valid before 2027-02-01 00:00:00 UTC".to_owned(),
        ),
        (
            TlsFrom::Own(dir.path().to_owned()),
            format!(
                "the certificate of the pages: {}/web-certificate.pem was not made by grantd",
                dir.path().display()
            ),
        ),
    ] {
        let error = tls.replace(from).unwrap_err().to_string();
        assert!(error.starts_with(&expected), "{error}");
        assert!(Arc::ptr_eq(&shown, &tls.current()), "the old one stays: {expected}");
    }
}

#[test]
fn a_certificate_whose_time_is_over_is_shown_if_there_is_no_other_at_the_start() {
    assert!(Tls::open(issued((2026, 1, 1), (2027, 1, 1)), clock()).is_ok());
}

#[test]
fn the_operator_hears_of_the_end_once_a_day_from_two_weeks_before_it() {
    let clock = clock();
    let now = clock.now();
    let tls = Tls::open(issued((2026, 12, 1), (2027, 2, 1)), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let due = || *tls.due.lock().unwrap();
    let first = Timestamp::from_secs(1_801_440_000).before(WARNING);
    assert_eq!(due(), first);
    drop(tls.current());
    assert_eq!(due(), first, "there is time");
    clock.advance(first.since(now));
    drop(tls.current());
    assert_eq!(due(), clock.now().after(DAY));
    clock.advance(DAY / 2);
    drop(tls.current());
    assert_eq!(due(), clock.now().after(DAY / 2), "not twice a day");
    clock.advance(30 * DAY);
    drop(tls.current());
    assert_eq!(due(), clock.now().after(DAY), "and when it is over");
}

#[test]
fn a_certificate_of_ours_that_a_clock_made_which_was_ahead_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    clock.advance(3000 * DAY);
    let tls = open(dir.path(), &clock).unwrap();
    let ahead = read(dir.path(), "web-certificate.pem");
    clock.jump(-3000 * 86_400_000);
    drop(tls.current());
    let right = read(dir.path(), "web-certificate.pem");
    assert_ne!(right, ahead);
    open(dir.path(), &clock).unwrap();
    assert_eq!(read(dir.path(), "web-certificate.pem"), right);
}
