//! Who calls: verified signatures, remembered for a while.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::failures::Failures;
use super::files::{self, FileProblem, Secrecy, UnusableFile};
use super::rejection::{Rejection, code};
use super::usersig::{InvalidKeys, Keys, MAX_BYTES, UserSigError};
use crate::settings::AuthSettings;
use convgroups_host::model::UserId;

/// The environment variable with the keys, where no file is named; separated by line breaks or commas.
pub const KEYS_VARIABLE: &str = "CONVGROUPS_USERSIG_KEYS";
/// Verified signatures that are remembered: some 200 bytes each.
const REMEMBERED: usize = 20_000;

/// A verified caller.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) user: UserId,
    /// When the signature ends, in seconds since 1970.
    pub(super) expires: u64,
}

/// Checks signatures.
#[derive(Debug)]
pub(super) struct Authenticator {
    app: u64,
    admins: RwLock<HashSet<String>>,
    keys: RwLock<Generation>,
    /// Tells who holds on to a signature that the keys are others now.
    replaced: watch::Sender<()>,
    /// By their digest, so that looking one up tells nothing about others. Expired ones are kept too, so that sending one again
    /// costs only a lookup.
    verified: Cache<[u8; 32], Remembered>,
    failures: RwLock<Limit>,
    throttled: Counter,
}

/// How many failures an address may have, and those that it has.
#[derive(Clone, Debug)]
struct Limit {
    per_minute: u32,
    failures: Option<Arc<Failures>>,
}

impl Limit {
    fn new(per_minute: u32) -> Self {
        Self { per_minute, failures: Failures::new(per_minute).map(Arc::new) }
    }
}

#[derive(Clone, Debug)]
struct Generation {
    number: u64,
    keys: Arc<Keys>,
}

#[derive(Clone, Debug)]
struct Remembered {
    caller: Caller,
    /// The generation of keys that it was verified with.
    generation: u64,
}

impl Authenticator {
    /// `throttled` counts signatures that are not read because of the address that they come from.
    pub(super) fn new(settings: &AuthSettings, keys: Keys, throttled: Counter) -> Self {
        Self {
            app: settings.sdk_app_id,
            admins: RwLock::new(settings.admins.iter().cloned().collect()),
            keys: RwLock::new(Generation { number: 0, keys: Arc::new(keys) }),
            replaced: watch::Sender::new(()),
            verified: Cache::new(REMEMBERED),
            failures: RwLock::new(Limit::new(settings.failures_per_minute_per_address)),
            throttled,
        }
    }

    /// Uses other keys from now on; signatures of keys that are not among them prove nothing any more. Returns whether they
    /// are others.
    pub(super) fn replace_keys(&self, keys: Keys) -> bool {
        let mut generation = self.keys.write();
        if *generation.keys == keys {
            return false;
        }
        *generation = Generation { number: generation.number + 1, keys: Arc::new(keys) };
        drop(generation);
        self.replaced.send_replace(());
        true
    }

    /// Uses other admins from now on. Returns whether they are others.
    pub(super) fn replace_admins(&self, admins: &[String]) -> bool {
        let admins = admins.iter().cloned().collect();
        let mut before = self.admins.write();
        let are_others = *before != admins;
        *before = admins;
        are_others
    }

    /// Uses another limit of failures from now on, and forgets those before. Returns whether it is another.
    pub(super) fn replace_limit(&self, per_minute: u32) -> bool {
        let is_another = self.failures.read().per_minute != per_minute;
        if is_another {
            *self.failures.write() = Limit::new(per_minute);
        }
        is_another
    }

    /// Changes when the keys do.
    pub(super) fn replacements(&self) -> watch::Receiver<()> {
        self.replaced.subscribe()
    }

    pub(super) fn app(&self) -> u64 {
        self.app
    }

    pub(super) fn is_admin(&self, identifier: &str) -> bool {
        self.admins.read().contains(identifier)
    }

    /// Verifies the signature that came from an address. A signature that was verified before costs only a lookup. Any other is
    /// read only if the address is within its rate of failures.
    pub(super) fn authenticate(&self, address: IpAddr, signature: &str) -> Result<Caller, Rejection> {
        self.authenticate_at(address, signature, now())
    }

    fn authenticate_at(&self, address: IpAddr, signature: &str, now: u64) -> Result<Caller, Rejection> {
        let generation = self.keys.read().clone();
        let digest = digest(signature)?;
        if let Some(known) = self.remembered(&digest, &generation) {
            return Ok(unexpired(known, now)?);
        }
        let failures = self.failures.read().failures.clone();
        if let Some(failures) = &failures
            && let Err(seconds) = failures.check(address)
        {
            self.throttled.inc();
            let desc = "too many UserSigs from your address could not be verified, try again later";
            return Err(Rejection::limited(code::USER_FREQUENCY, seconds, desc));
        }
        let read = self.read(digest, signature, &generation).inspect_err(|_| {
            if let Some(failures) = &failures {
                failures.count(address);
            }
        });
        Ok(unexpired(read?, now)?)
    }

    /// Verifies a signature again that was accepted before, whatever address it came from.
    pub(super) fn verify(&self, signature: &str) -> Result<Caller, UserSigError> {
        self.verify_at(signature, now())
    }

    fn verify_at(&self, signature: &str, now: u64) -> Result<Caller, UserSigError> {
        let generation = self.keys.read().clone();
        let digest = digest(signature)?;
        let caller = match self.remembered(&digest, &generation) {
            Some(known) => known,
            None => self.read(digest, signature, &generation)?,
        };
        unexpired(caller, now)
    }

    fn remembered(&self, digest: &[u8; 32], generation: &Generation) -> Option<Caller> {
        self.verified.get(digest).filter(|known| known.generation == generation.number).map(|known| known.caller)
    }

    /// Verifies a signature and remembers it, whether it has expired or not.
    fn read(&self, digest: [u8; 32], signature: &str, generation: &Generation) -> Result<Caller, UserSigError> {
        let signed = generation.keys.verify_at_any_time(signature, self.app)?;
        let user = UserId::new(signed.identifier)
            .map_err(|_| UserSigError::illegal_field("TLS.identifier", "is not a user ID"))?;
        let caller = Caller { user, expires: signed.expires };
        self.verified.insert(digest, Remembered { caller: caller.clone(), generation: generation.number });
        Ok(caller)
    }
}

fn unexpired(caller: Caller, now: u64) -> Result<Caller, UserSigError> {
    if now > caller.expires { Err(UserSigError::Expired) } else { Ok(caller) }
}

/// The digest by which a signature is remembered; what is too long is not even digested.
fn digest(signature: &str) -> Result<[u8; 32], UserSigError> {
    if signature.is_empty() {
        return Err(UserSigError::Empty);
    }
    if signature.len() > MAX_BYTES {
        return Err(UserSigError::illegal("it is too long"));
    }
    Ok(Sha256::digest(signature).into())
}

/// The time, in seconds since 1970.
pub(super) fn now() -> u64 {
    // A clock before 1970 makes every signature one of the future, which expires no sooner.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// Why the keys that UserSigs are checked with cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// Their file cannot be used.
    #[error("the keys file {0}")]
    File(#[from] UnusableFile),
    /// The environment variable has no keys.
    #[error("{KEYS_VARIABLE}: {0}")]
    Variable(#[source] InvalidKeys),
    /// The environment variable is not text.
    #[error("{KEYS_VARIABLE}: {0}")]
    VariableUnreadable(#[source] std::env::VarError),
}

/// Where keys come from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// A file, read again and again while the server runs.
    File(PathBuf),
    /// These, for good.
    Fixed(Keys),
}

impl KeySource {
    /// What the settings and the environment say; nothing when they say nothing.
    ///
    /// # Errors
    ///
    /// When the environment variable is there and has no keys.
    pub fn find(settings: &AuthSettings) -> Result<Option<Self>, KeysError> {
        if !settings.keys_file.as_os_str().is_empty() {
            return Ok(Some(Self::File(settings.keys_file.clone())));
        }
        match std::env::var(KEYS_VARIABLE) {
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(error) => Err(KeysError::VariableUnreadable(error)),
            Ok(text) => {
                let keys = Keys::parse(&text.replace(',', "\n")).map_err(KeysError::Variable)?;
                Ok(Some(Self::Fixed(keys)))
            }
        }
    }

    /// The keys.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, other users can read or write it, or a line of it is not a key.
    pub fn load(&self) -> Result<Keys, KeysError> {
        match self {
            Self::Fixed(keys) => Ok(keys.clone()),
            Self::File(path) => Ok(load(path)?),
        }
    }
}

fn load(path: &Path) -> Result<Keys, UnusableFile> {
    let content = files::read(path, Secrecy::Secret)?;
    let text = String::from_utf8(content).map_err(|_| FileProblem::NotUtf8.of(path))?;
    Keys::parse(&text).map_err(|error| FileProblem::Keys(error).of(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: u64 = 1_400_000_000;

    fn authenticator(keys: &str) -> Authenticator {
        let settings = AuthSettings { sdk_app_id: APP, ..AuthSettings::default() };
        Authenticator::new(&settings, Keys::parse(keys).expect("keys"), Counter::default())
    }

    #[test]
    fn a_remembered_signature_expires_like_any_other() {
        let keys = "0123456789abcdef";
        let authenticator = authenticator(keys);
        let signature = Keys::parse(keys).expect("keys").sign("alice", APP, 1000, 60);
        for now in [1000, 1060] {
            assert_eq!(authenticator.verify_at(&signature, now).expect("valid").user.as_str(), "alice");
        }
        for _ in 0..2 {
            assert_eq!(authenticator.verify_at(&signature, 1061).expect_err("expired"), UserSigError::Expired);
        }
    }

    #[test]
    fn a_throttled_address_may_still_use_signatures_that_were_verified_before() {
        let keys = "0123456789abcdef";
        let settings = AuthSettings { sdk_app_id: APP, failures_per_minute_per_address: 3, ..AuthSettings::default() };
        let authenticator = Authenticator::new(&settings, Keys::parse(keys).expect("keys"), Counter::default());
        let signer = Keys::parse(keys).expect("keys");
        let (alice, bob) = (signer.sign("alice", APP, 1000, 60), signer.sign("bob", APP, 1000, 60));
        let expired = signer.sign("alice", APP, 100, 60);
        let here: IpAddr = "192.0.2.1".parse().expect("an address");
        let code = |address: IpAddr, signature: &str| {
            authenticator.authenticate_at(address, signature, 1000).map_or_else(|rejection| rejection.code, |_| 0)
        };
        assert_eq!(code(here, &alice), 0);
        // What has expired was made with the key: a client that has to renew its signature is told so.
        for _ in 0..10 {
            assert_eq!(code(here, &expired), 70001);
        }
        for number in 0..3 {
            assert_eq!(code(here, &format!("wrong{number}")), 70003);
        }
        for signature in [&bob, "wrong", &bob] {
            assert_eq!(code(here, signature), 60007, "{signature}");
        }
        assert_eq!((code(here, &alice), code(here, &expired)), (0, 70001), "both are remembered");
        assert_eq!(code("192.0.2.2".parse().expect("an address"), &bob), 0, "from another address");
        assert_eq!(code(here, &bob), 0, "and from now on from everywhere");
        assert_eq!(authenticator.throttled.get(), 3);
    }

    #[test]
    fn a_remembered_signature_ends_with_its_key() {
        let (old, new) = ("old key of 16 bytes and more", "new key of 16 bytes and more");
        let authenticator = authenticator(old);
        let signature = Keys::parse(old).expect("keys").sign("alice", APP, 1000, 60);
        authenticator.verify_at(&signature, 1000).expect("valid");
        authenticator.replace_keys(Keys::parse(&format!("{new}\n{old}")).expect("keys"));
        authenticator.verify_at(&signature, 1000).expect("both keys verify");
        authenticator.replace_keys(Keys::parse(new).expect("keys"));
        assert_eq!(authenticator.verify_at(&signature, 1000).expect_err("retired"), UserSigError::WrongKey);
    }

    #[test]
    fn the_memory_of_signatures_is_bounded() {
        let keys = "0123456789abcdef";
        let authenticator = authenticator(keys);
        let signer = Keys::parse(keys).expect("keys");
        for user in 0..(REMEMBERED + 1000) {
            let signature = signer.sign(&user.to_string(), APP, 1000, 60);
            authenticator.verify_at(&signature, 1000).expect("valid");
        }
        assert!(authenticator.verified.len() <= REMEMBERED, "{}", authenticator.verified.len());
    }
}
