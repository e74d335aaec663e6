//! Reasons why a text is not a usable phone number.

/// Reason why a text is not a usable phone number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhoneProblem {
    /// Empty text.
    #[error("is empty")]
    Empty,
    /// Text too long for a number.
    #[error("is longer than 60 characters")]
    TooLong,
    /// Number with an extension, which cannot be dialled.
    #[error("has an extension; give a number that can be dialled directly")]
    Extension,
    /// Text with letters.
    #[error("has letters; give digits only")]
    Letters,
    /// Two numbers, or a range of numbers.
    #[error("may be more than one number, or a range; give one number")]
    Several,
    /// Date.
    #[error("looks like a date")]
    Date,
    /// Number that lost its plus sign or its leading zero, and could be either.
    #[error("may have lost its + or its leading 0; write it with + and the country code")]
    Ambiguous,
    /// No country code, and no region to supply it.
    #[error("has no country code; write it with + and the country code, or set default_region")]
    NoCountry,
    /// Number that is not assigned to anyone.
    #[error("is not a valid phone number")]
    Invalid,
    /// Number that costs its caller.
    #[error("is {0}, which costs more than a call; allow_costly_numbers lets the campaign call it")]
    Costly(Cost),
}

/// Reason why a call to a number costs extra.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cost {
    /// Premium rate.
    #[error("a premium-rate number")]
    PremiumRate,
    /// Shared cost.
    #[error("a shared-cost number")]
    SharedCost,
    /// Company's access number.
    #[error("a universal access number")]
    UniversalAccess,
    /// Personal number, which is forwarded at the caller's cost.
    #[error("a personal number")]
    Personal,
    /// Pager or voice mail system.
    #[error("a pager or voice mail number")]
    Service,
    /// Satellite phone.
    #[error("a satellite number")]
    Satellite,
    /// Directory assistance.
    #[error("a directory number")]
    Directory,
}
