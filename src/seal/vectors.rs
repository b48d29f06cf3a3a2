//! Holds the code to the published vectors, which another implementation made.

use serde::Deserialize;

use crate::model::id::{Epoch, Generation, InstanceId, ProviderId, TenantId, Version};
use crate::seal::format::Randomness;
use crate::seal::{Keyring, OpenError, Place, RootKey, Sealed, UnlockError};

#[derive(Deserialize)]
struct Vectors {
    instance: InstanceId,
    root_key: String,
    root_fingerprint: String,
    keyring: SealedKeyring,
    wrong_root: WrongRoot,
    values: Vec<Value>,
    digests: Vec<Digest>,
    refused: Vec<Refused>,
    flips: Flips,
    truncations: Truncations,
}

#[derive(Deserialize)]
struct SealedKeyring {
    salt: String,
    nonce: String,
    sealed: String,
}

#[derive(Deserialize)]
struct WrongRoot {
    root_key: String,
    root_fingerprint: String,
}

#[derive(Deserialize)]
struct Value {
    name: String,
    place: OwnedPlace,
    plaintext: String,
    kid: String,
    salt: String,
    nonce: String,
    sealed: String,
}

#[derive(Deserialize)]
struct OwnedPlace {
    tenant: TenantId,
    provider: ProviderId,
    owner: String,
    column: String,
    epoch: Epoch,
    generation: Generation,
}

#[derive(Deserialize)]
struct Digest {
    purpose: String,
    data: String,
    digest: String,
}

#[derive(Deserialize)]
struct Refused {
    name: String,
    place: OwnedPlace,
    sealed: String,
    error: Word,
}

#[derive(Deserialize)]
struct Flips {
    value: String,
    mask: String,
    expected: Vec<Range>,
}

#[derive(Deserialize)]
struct Truncations {
    value: String,
    expected: Vec<Range>,
}

#[derive(Deserialize)]
struct Range {
    from: usize,
    to: usize,
    error: Word,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Forged,
    Format,
    UnknownKey,
}

impl From<Word> for OpenError {
    fn from(word: Word) -> Self {
        match word {
            Word::Forged => Self::Forged,
            Word::Format => Self::Format,
            Word::UnknownKey => Self::UnknownKey,
        }
    }
}

impl OwnedPlace {
    fn borrow(&self) -> Place<'_> {
        Place {
            tenant: &self.tenant,
            provider: &self.provider,
            owner: &self.owner,
            column: &self.column,
            version: Version { epoch: self.epoch, generation: self.generation },
        }
    }
}

impl Vectors {
    fn read() -> Self {
        serde_json::from_str(include_str!("../../docs/seal-vectors.json")).unwrap()
    }

    fn root(&self) -> RootKey {
        RootKey::parse(self.root_key.as_bytes()).unwrap()
    }

    fn keyring(&self) -> Keyring {
        Keyring::unlock(&self.root(), &self.instance, &bytes(&self.keyring.sealed)).unwrap()
    }

    fn value(&self, name: &str) -> &Value {
        self.values.iter().find(|value| value.name == name).unwrap()
    }
}

fn bytes(digits: &str) -> Vec<u8> {
    hex::decode(digits).unwrap()
}

fn randomness(salt: &str, nonce: &str) -> Randomness {
    Randomness { salt: bytes(salt).try_into().unwrap(), nonce: bytes(nonce).try_into().unwrap() }
}

#[test]
fn the_published_keyring_opens_and_is_what_we_would_seal() {
    let vectors = Vectors::read();
    assert_eq!(vectors.root().fingerprint(), vectors.root_fingerprint);
    let random = randomness(&vectors.keyring.salt, &vectors.keyring.nonce);
    let sealed = vectors.keyring().lock_with(&vectors.root(), &random);
    assert_eq!(hex::encode(sealed), vectors.keyring.sealed);

    let other = RootKey::parse(vectors.wrong_root.root_key.as_bytes()).unwrap();
    let Err(UnlockError::WrongRoot { expected, given }) =
        Keyring::unlock(&other, &vectors.instance, &bytes(&vectors.keyring.sealed))
    else {
        panic!("opened with the wrong root key");
    };
    assert_eq!(expected, vectors.root_fingerprint);
    assert_eq!(given, vectors.wrong_root.root_fingerprint);
}

#[test]
fn the_published_values_open_and_are_what_we_would_seal() {
    let vectors = Vectors::read();
    let keyring = vectors.keyring();
    assert!(vectors.values.len() >= 6);
    for value in &vectors.values {
        let place = value.place.borrow();
        let opened = keyring.open(&place, &Sealed::from_bytes(bytes(&value.sealed))).unwrap();
        assert_eq!(opened.as_slice(), value.plaintext.as_bytes(), "{}", value.name);

        let random = randomness(&value.salt, &value.nonce);
        let sealed = hex::encode(keyring.seal_with(&place, value.plaintext.as_bytes(), &random).as_bytes());
        let by_primary = value.kid == vectors.values[0].kid;
        assert_eq!(sealed == value.sealed, by_primary, "{}", value.name);
    }
}

#[test]
fn the_published_digests_are_ours() {
    let vectors = Vectors::read();
    let keyring = vectors.keyring();
    assert!(!vectors.digests.is_empty());
    for digest in &vectors.digests {
        let ours = keyring.digest(&digest.purpose, digest.data.as_bytes());
        assert_eq!(hex::encode(ours), digest.digest, "{}", digest.purpose);
    }
}

#[test]
fn what_must_be_refused_is_refused_for_its_reason() {
    let vectors = Vectors::read();
    let keyring = vectors.keyring();
    assert!(vectors.refused.len() >= 12);
    for refused in &vectors.refused {
        let sealed = Sealed::from_bytes(bytes(&refused.sealed));
        let error = keyring.open(&refused.place.borrow(), &sealed).unwrap_err();
        assert_eq!(error, refused.error.into(), "{}", refused.name);
    }
}

#[test]
fn a_bit_flipped_anywhere_is_noticed() {
    let vectors = Vectors::read();
    let (keyring, value) = (vectors.keyring(), vectors.value(&vectors.flips.value));
    let sealed = bytes(&value.sealed);
    let mask = bytes(&vectors.flips.mask)[0];
    let mut seen = 0;
    for range in &vectors.flips.expected {
        for at in range.from..range.to {
            let mut flipped = sealed.clone();
            flipped[at] ^= mask;
            let error = keyring.open(&value.place.borrow(), &Sealed::from_bytes(flipped)).unwrap_err();
            assert_eq!(error, range.error.into(), "byte {at}");
            seen += 1;
        }
    }
    assert_eq!(seen, sealed.len());
}

#[test]
fn a_value_cut_off_anywhere_is_noticed() {
    let vectors = Vectors::read();
    let (keyring, value) = (vectors.keyring(), vectors.value(&vectors.truncations.value));
    let sealed = bytes(&value.sealed);
    let mut seen = 0;
    for range in &vectors.truncations.expected {
        for length in range.from..range.to {
            let cut = Sealed::from_bytes(sealed[..length].to_vec());
            let error = keyring.open(&value.place.borrow(), &cut).unwrap_err();
            assert_eq!(error, range.error.into(), "{length} bytes");
            seen += 1;
        }
    }
    assert_eq!(seen, sealed.len());
}
