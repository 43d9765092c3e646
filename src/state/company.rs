//! Whether a client and a server connection have had only each other.
//!
//! What `currval` and `lastval` know is kept by PostgreSQL for the connection,
//! and nobody can ask it for which sequences. It is the client's own where
//! only this client has used the connection and this client no other; else it
//! is thrown away before the client first asks (decision 22).

/// The clients that a connection has had, or the connections that a client has
/// had, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Company {
    /// Nobody yet.
    #[default]
    Nobody,
    /// One.
    One(u64),
    /// More than one.
    Several,
}

/// What a client would be told of sequences on its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequences {
    /// What it has done itself.
    Own,
    /// Perhaps what others have done, or what is out of date.
    Strange,
}

impl Company {
    /// Meets one, perhaps again. Returns whether there was no other.
    pub fn meet(&mut self, number: u64) -> bool {
        *self = match *self {
            Self::Nobody => Self::One(number),
            Self::One(known) if known == number => Self::One(number),
            Self::One(_) | Self::Several => Self::Several,
        };
        *self == Self::One(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_met_several_is_never_alone_with_one_again() {
        let mut company = Company::default();
        assert!(company.meet(1) && company.meet(1));
        assert!(!company.meet(2) && !company.meet(2) && !company.meet(1));
    }
}
