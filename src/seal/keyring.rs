//! The keyring: several keys by name, one of them primary, and what is sealed, opened and recognised with them.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::model::id::{InstanceId, random_bytes};
use crate::seal::format::{self, Kid, Kind, Parts, Randomness};
use crate::seal::key::{KEY_LEN, Key};
use crate::seal::root::{RootKey, fingerprint_text};
use crate::seal::{OpenError, Place, Sealed, UnlockError};

/// The form of a keyring's content, before it is sealed.
const CONTENT_VERSION: u8 = 1;

/// The keys of one installation.
pub struct Keyring {
    instance: InstanceId,
    /// Stays when the other keys are rotated: what was digested must be recognised for ever.
    digests: Key,
    keys: Vec<NamedKey>,
}

struct NamedKey {
    kid: Kid,
    state: KeyState,
    key: Key,
}

/// What a key is used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum KeyState {
    /// Seals and opens; there is exactly one.
    Primary = 1,
    /// Opens only: every node learns it before one of them seals with it.
    Standby = 2,
    /// Opens only: what it sealed is being sealed again.
    DecryptOnly = 3,
}

impl KeyState {
    const ALL: [Self; 3] = [Self::Primary, Self::Standby, Self::DecryptOnly];
}

impl Keyring {
    /// The keyring of a new installation, with one key.
    #[must_use]
    pub fn create(instance: &InstanceId) -> Self {
        Self {
            instance: instance.clone(),
            digests: Key::random(),
            keys: vec![NamedKey { kid: random_bytes(), state: KeyState::Primary, key: Key::random() }],
        }
    }

    /// The keyring under a root key, as it is stored. The root key's fingerprint stands in its header.
    #[must_use]
    pub fn lock(&self, root: &RootKey) -> Vec<u8> {
        self.lock_with(root, &Randomness::fresh())
    }

    /// Opens what [`lock`](Self::lock) made for this installation.
    ///
    /// # Errors
    /// If another root key made it, or if it is not what was made: changed, cut off, or of another installation.
    pub fn unlock(root: &RootKey, instance: &InstanceId, sealed: &[u8]) -> Result<Self, UnlockError> {
        let parts =
            Parts::read(Kind::Keyring, sealed).map_err(|_| UnlockError::Damaged("not a keyring of a known format"))?;
        let given = root.kid();
        if *parts.kid != given {
            return Err(UnlockError::WrongRoot {
                expected: fingerprint_text(parts.kid),
                given: fingerprint_text(&given),
            });
        }
        let content = parts
            .open(root.key(), &[instance.as_str().as_bytes()])
            .map_err(|_| UnlockError::Damaged("it was changed, or belongs to another installation"))?;
        Self::read(instance, &content).ok_or(UnlockError::Damaged("its content makes no sense"))
    }

    /// Seals a value for one place, with the primary key.
    #[must_use]
    pub fn seal(&self, place: &Place<'_>, plaintext: &[u8]) -> Sealed {
        self.seal_with(place, plaintext, &Randomness::fresh())
    }

    /// Opens a value in the place it was sealed for. The key is the one that the value names; no other is tried.
    ///
    /// # Errors
    /// If the value is not one, its key is not here, or it does not belong in this place.
    pub fn open(&self, place: &Place<'_>, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let parts = Parts::read(Kind::Value, sealed.as_bytes())?;
        let named = self.keys.iter().find(|named| named.kid == *parts.kid).ok_or(OpenError::UnknownKey)?;
        self.in_context(place, |context| parts.open(&named.key, context))
    }

    /// Keyed digest (HMAC-SHA256, RFC 2104) of something that must be recognised and never read back. It is the same for
    /// as long as the installation lives; digests of different purposes have nothing in common.
    ///
    /// # Panics
    /// Never: HMAC takes keys of any length.
    #[must_use]
    pub fn digest(&self, purpose: &str, data: &[u8]) -> [u8; 32] {
        let key = self.digests.derive(&[], &format!("digest/{purpose}"));
        let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
        mac.update(data);
        mac.finalize().into_bytes().into()
    }

    pub(super) fn lock_with(&self, root: &RootKey, random: &Randomness) -> Vec<u8> {
        let instance = self.instance.as_str().as_bytes();
        format::seal(root.key(), Kind::Keyring, &root.kid(), &[instance], &self.content(), random)
    }

    pub(super) fn seal_with(&self, place: &Place<'_>, plaintext: &[u8], random: &Randomness) -> Sealed {
        let primary = self
            .keys
            .iter()
            .find(|named| named.state == KeyState::Primary)
            .expect("a keyring without a primary key is not read");
        self.in_context(place, |context| {
            Sealed(format::seal(&primary.key, Kind::Value, &primary.kid, context, plaintext, random))
        })
    }

    fn in_context<T>(&self, place: &Place<'_>, act: impl FnOnce(&[&[u8]]) -> T) -> T {
        act(&[
            self.instance.as_str().as_bytes(),
            place.tenant.as_str().as_bytes(),
            place.owner.as_bytes(),
            &place.version.epoch.0.to_be_bytes(),
            &place.version.generation.0.to_be_bytes(),
            place.column.as_bytes(),
            place.provider.as_str().as_bytes(),
        ])
    }

    /// `version | digest key | count | (kid | state | key)…`
    fn content(&self) -> Zeroizing<Vec<u8>> {
        let count = u8::try_from(self.keys.len()).expect("a keyring holds a handful of keys");
        let mut content = Zeroizing::new(Vec::with_capacity(2 + KEY_LEN + self.keys.len() * ENTRY_LEN));
        content.push(CONTENT_VERSION);
        content.extend_from_slice(self.digests.expose());
        content.push(count);
        for named in &self.keys {
            content.extend_from_slice(&named.kid);
            content.push(named.state as u8);
            content.extend_from_slice(named.key.expose());
        }
        content
    }

    fn read(instance: &InstanceId, content: &[u8]) -> Option<Self> {
        let ([version], rest) = content.split_first_chunk()?;
        let (digests, rest) = rest.split_first_chunk::<KEY_LEN>()?;
        let ([count], entries) = rest.split_first_chunk()?;
        if *version != CONTENT_VERSION || entries.len() != usize::from(*count) * ENTRY_LEN {
            return None;
        }
        let keys: Vec<_> = entries.chunks_exact(ENTRY_LEN).map(NamedKey::read).collect::<Option<_>>()?;
        let primaries = keys.iter().filter(|named| named.state == KeyState::Primary).count();
        let named_once =
            keys.iter().enumerate().all(|(at, named)| keys[..at].iter().all(|other| other.kid != named.kid));
        if primaries != 1 || !named_once {
            return None;
        }
        Some(Self { instance: instance.clone(), digests: Key::copy_of(digests)?, keys })
    }
}

const ENTRY_LEN: usize = format::KID_LEN + 1 + KEY_LEN;

impl NamedKey {
    fn read(entry: &[u8]) -> Option<Self> {
        let (kid, rest) = entry.split_first_chunk()?;
        let ([state], key) = rest.split_first_chunk()?;
        Some(Self {
            kid: *kid,
            state: KeyState::ALL.into_iter().find(|known| *known as u8 == *state)?,
            key: Key::copy_of(key)?,
        })
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("instance", &self.instance).field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl fmt::Debug for NamedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", fingerprint_text(&self.kid), self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{Epoch, Generation, ProviderId, TenantId, Version};

    fn with_states(states: &[KeyState]) -> Keyring {
        let mut keyring = Keyring::create(&InstanceId::random());
        keyring.keys =
            states.iter().map(|state| NamedKey { kid: random_bytes(), state: *state, key: Key::random() }).collect();
        keyring
    }

    fn reopened(keyring: &Keyring) -> Result<Keyring, UnlockError> {
        let root = RootKey::generate();
        Keyring::unlock(&root, &keyring.instance, &keyring.lock(&root))
    }

    fn somewhere<T>(act: impl FnOnce(&Place<'_>) -> T) -> T {
        act(&Place {
            tenant: &TenantId::local(),
            provider: &"github".parse::<ProviderId>().unwrap(),
            owner: "cx_1",
            column: "refresh/main",
            version: Version { epoch: Epoch(1), generation: Generation(1) },
        })
    }

    #[test]
    fn another_root_key_is_named_and_so_is_the_right_one() {
        let (right, wrong) = (RootKey::generate(), RootKey::generate());
        let instance = InstanceId::random();
        let sealed = Keyring::create(&instance).lock(&right);
        let Err(UnlockError::WrongRoot { expected, given }) = Keyring::unlock(&wrong, &instance, &sealed) else {
            panic!("opened with the wrong root key");
        };
        assert_eq!((expected, given), (right.fingerprint(), wrong.fingerprint()));
        assert!(Keyring::unlock(&right, &instance, &sealed).is_ok());
    }

    #[test]
    fn a_changed_or_foreign_keyring_stays_shut() {
        let root = RootKey::generate();
        let instance = InstanceId::random();
        let sealed = Keyring::create(&instance).lock(&root);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(Keyring::unlock(&root, &instance, &changed).is_err(), "byte {at}");
            assert!(Keyring::unlock(&root, &instance, &sealed[..at]).is_err(), "cut at {at}");
        }
        assert!(matches!(Keyring::unlock(&root, &InstanceId::random(), &sealed), Err(UnlockError::Damaged(_))));
    }

    #[test]
    fn retired_and_coming_keys_still_open_and_only_the_primary_seals() {
        use KeyState::{DecryptOnly, Primary, Standby};
        let mut keyring = with_states(&[Primary, Standby, DecryptOnly]);
        let sealed = somewhere(|place| keyring.seal(place, b"secret"));
        let digest = keyring.digest("state", b"x");
        keyring.keys[0].state = DecryptOnly;
        keyring.keys[1].state = Primary;
        let keyring = reopened(&keyring).unwrap();
        assert_eq!(somewhere(|place| keyring.open(place, &sealed)).unwrap().as_slice(), b"secret");
        let newer = somewhere(|place| keyring.seal(place, b"secret"));
        assert_eq!(newer.as_bytes()[2..10], keyring.keys[1].kid);
        assert_eq!(keyring.digest("state", b"x"), digest, "digests outlive a rotation");
    }

    #[test]
    fn a_keyring_has_exactly_one_primary_key_and_no_name_twice() {
        use KeyState::{DecryptOnly, Primary, Standby};
        for states in [&[][..], &[Standby, DecryptOnly], &[Primary, Primary]] {
            assert!(matches!(reopened(&with_states(states)), Err(UnlockError::Damaged(_))), "{states:?}");
        }
        let mut twice = with_states(&[Primary, Standby]);
        twice.keys[1].kid = twice.keys[0].kid;
        assert!(matches!(reopened(&twice), Err(UnlockError::Damaged(_))));
    }

    #[test]
    fn the_same_secret_is_never_sealed_alike() {
        let keyring = Keyring::create(&InstanceId::random());
        somewhere(|place| assert_ne!(keyring.seal(place, b"secret"), keyring.seal(place, b"secret")));
    }

    #[test]
    fn digests_differ_by_purpose_data_and_keyring() {
        let keyring = Keyring::create(&InstanceId::random());
        let digest = keyring.digest("state", b"x");
        assert_eq!(digest, keyring.digest("state", b"x"));
        assert_ne!(digest, keyring.digest("cookie", b"x"));
        assert_ne!(digest, keyring.digest("state", b"y"));
        assert_ne!(digest, Keyring::create(&InstanceId::random()).digest("state", b"x"));
    }

    #[test]
    fn printing_a_keyring_shows_no_key() {
        let keyring = Keyring::create(&InstanceId::random());
        let printed = format!("{keyring:?}");
        assert!(printed.contains("Primary"), "{printed}");
        assert!(!printed.contains("Key(") && !printed.contains(&format!("{:?}", keyring.keys[0].key.expose())));
    }
}
