//! Ranges of settings.

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("setting {key}: {reason}")]
pub struct InvalidSetting {
    /// Its path, as in the file.
    pub key: &'static str,
    /// Why, and what would do.
    pub reason: String,
}

/// Checks that a setting is from `least` to `most`.
///
/// # Errors
///
/// It is not.
pub fn within(key: &'static str, value: u64, least: u64, most: u64) -> Result<(), InvalidSetting> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(InvalidSetting { key, reason: format!("is {value}, must be {least} to {most}") })
}
