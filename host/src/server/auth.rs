//! Who calls: verified signatures, remembered for a while.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::usersig::{Keys, UserSigError};
use crate::model::UserId;
use crate::settings::AuthSettings;

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
    admins: HashSet<String>,
    keys: RwLock<Generation>,
    /// Tells who holds on to a signature that the keys are others now.
    replaced: watch::Sender<()>,
    /// By their digest, so that looking one up tells nothing about others.
    verified: Cache<[u8; 32], Remembered>,
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
    pub(super) fn new(settings: &AuthSettings, keys: Keys) -> Self {
        Self {
            app: settings.sdk_app_id,
            admins: settings.admins.iter().cloned().collect(),
            keys: RwLock::new(Generation { number: 0, keys: Arc::new(keys) }),
            replaced: watch::Sender::new(()),
            verified: Cache::new(REMEMBERED),
        }
    }

    /// Uses other keys from now on; signatures of keys that are not among them prove nothing any more.
    pub(super) fn replace_keys(&self, keys: Keys) {
        let mut generation = self.keys.write();
        *generation = Generation { number: generation.number + 1, keys: Arc::new(keys) };
        drop(generation);
        self.replaced.send_replace(());
    }

    /// Changes when the keys do.
    pub(super) fn replacements(&self) -> watch::Receiver<()> {
        self.replaced.subscribe()
    }

    pub(super) fn app(&self) -> u64 {
        self.app
    }

    pub(super) fn is_admin(&self, identifier: &str) -> bool {
        self.admins.contains(identifier)
    }

    pub(super) fn verify(&self, signature: &str) -> Result<Caller, UserSigError> {
        self.verify_at(signature, now())
    }

    fn verify_at(&self, signature: &str, now: u64) -> Result<Caller, UserSigError> {
        let Generation { number, keys } = self.keys.read().clone();
        let digest: [u8; 32] = Sha256::digest(signature).into();
        if let Some(known) = self.verified.get(&digest).filter(|known| known.generation == number) {
            if now > known.caller.expires {
                self.verified.remove(&digest);
                return Err(UserSigError::Expired);
            }
            return Ok(known.caller);
        }
        let signed = keys.verify(signature, self.app, now)?;
        let user = UserId::new(signed.identifier).map_err(|_| UserSigError::Illegal("its identifier is no user's"))?;
        let caller = Caller { user, expires: signed.expires };
        self.verified.insert(digest, Remembered { caller: caller.clone(), generation: number });
        Ok(caller)
    }
}

/// The time, in seconds since 1970.
pub(super) fn now() -> u64 {
    // A clock before 1970 makes every signature one of the future, which expires no sooner.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// Where keys come from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// A file, read again when it changes.
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
    pub fn find(settings: &AuthSettings) -> Result<Option<Self>, String> {
        if !settings.keys_file.as_os_str().is_empty() {
            return Ok(Some(Self::File(settings.keys_file.clone())));
        }
        match std::env::var(KEYS_VARIABLE) {
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(error) => Err(format!("{KEYS_VARIABLE}: {error}")),
            Ok(text) => {
                let keys =
                    Keys::parse(&text.replace(',', "\n")).map_err(|error| format!("{KEYS_VARIABLE}: {error}"))?;
                Ok(Some(Self::Fixed(keys)))
            }
        }
    }

    /// The keys.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or has no keys.
    pub fn load(&self) -> Result<Keys, String> {
        match self {
            Self::Fixed(keys) => Ok(keys.clone()),
            Self::File(path) => load(path),
        }
    }
}

fn load(path: &Path) -> Result<Keys, String> {
    let failed = |error: &dyn std::fmt::Display| format!("the keys file {}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    #[cfg(unix)]
    if std::fs::metadata(path)
        .is_ok_and(|metadata| std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7 != 0)
    {
        tracing::warn!(path = %path.display(), "the keys file can be read by everybody on this machine");
    }
    Keys::parse(&text).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: u64 = 1_400_000_000;

    fn authenticator(keys: &str) -> Authenticator {
        let settings = AuthSettings { sdk_app_id: APP, ..AuthSettings::default() };
        Authenticator::new(&settings, Keys::parse(keys).expect("keys"))
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
