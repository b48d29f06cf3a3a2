//! Which certificates are taken, and how one of our own is made, kept and made anew.

use std::os::unix::fs::PermissionsExt as _;

use tokio::net::TcpListener;

use super::*;
use crate::clock::ManualClock;

const DAY: Duration = Duration::from_secs(86_400);

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
    tls.renew_if_due();
    assert_eq!(read(dir.path(), "web-certificate.pem"), first, "it lasts longer than that");
    clock.advance(2 * DAY);
    tls.renew_if_due();
    let second = read(dir.path(), "web-certificate.pem");
    assert_ne!(second, first);
    tls.renew_if_due();
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
    given(certificate.as_bytes(), key.as_bytes()).unwrap();
    for (certificate, key, expected) in [
        (certificate.as_str(), stranger.as_str(), "is not the key of the certificate"),
        (certificate.as_str(), certificate.as_str(), "holds no private key in PEM form"),
        (key.as_str(), key.as_str(), "holds no certificate in PEM form"),
        ("", key.as_str(), "holds no certificate in PEM form"),
        (certificate.as_str(), "", "holds no private key in PEM form"),
    ] {
        let error = given(certificate.as_bytes(), key.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        assert!(!error.contains("BEGIN"), "{error}");
    }
}

#[tokio::test]
async fn plain_http_is_told_where_the_pages_are() {
    let dir = tempfile::tempdir().unwrap();
    let tls = open(dir.path(), &clock()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let browser = tokio::spawn(async move {
        let mut browser = TcpStream::connect(address).await.unwrap();
        browser.write_all(b"GET /connect/cn_x HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        browser.read_to_string(&mut answer).await.unwrap();
        answer
    });
    let (stream, _) = listener.accept().await.unwrap();
    assert!(tls.accept(stream, "https://localhost:8717").await.is_none());
    let answer = browser.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("open https://localhost:8717/ instead.\n"), "{answer}");
}

#[tokio::test]
async fn a_handshake_that_does_not_come_to_its_end_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut tls = open(dir.path(), &clock()).unwrap();
    tls.patience = Duration::from_millis(40);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for sent in [&b""[..], &[HANDSHAKE_RECORD, 3, 1]] {
        let mut browser = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        browser.write_all(sent).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        assert!(tls.accept(stream, "https://localhost:8717").await.is_none(), "{sent:?}");
    }
}
