//! A share of one CPU, as users write it.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// What may be spent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// Nothing: no probes.
    Off,
    /// A share of one CPU, above 0.
    Share(f64),
    /// Probes stay, whatever they cost.
    Unlimited,
}

impl Budget {
    /// A share of one CPU; 0 is [`Self::Off`].
    #[must_use]
    pub fn share(share: f64) -> Self {
        if share > 0.0 { Self::Share(share) } else { Self::Off }
    }

    /// Share of one CPU; infinite if unlimited.
    #[must_use]
    pub const fn rate(self) -> f64 {
        match self {
            Self::Off => 0.0,
            Self::Share(share) => share,
            Self::Unlimited => f64::INFINITY,
        }
    }
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => return Ok(Self::Off),
            "unlimited" => return Ok(Self::Unlimited),
            _ => {}
        }
        let percent: f64 = text
            .strip_suffix('%')
            .unwrap_or(if text == "0" { text } else { "" })
            .trim()
            .parse()
            .map_err(|_| "write it as 1% (of one CPU), unlimited or off".to_owned())?;
        if !percent.is_finite() || percent < 0.0 {
            return Err("a budget is 0% or more of one CPU".to_owned());
        }
        Ok(Self::share(percent / 100.0))
    }
}

impl Display for Budget {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Share(share) => write!(f, "{}%", share * 100.0),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    /// Every form that the documentation names is read, and shown as it was written.
    #[test]
    fn forms() {
        for (text, budget) in [
            ("1%", Budget::Share(0.01)),
            ("0.5%", Budget::Share(0.005)),
            ("250%", Budget::Share(2.5)),
            ("off", Budget::Off),
            ("unlimited", Budget::Unlimited),
        ] {
            assert_eq!(text.parse(), Ok(budget), "{text}");
            assert_eq!(budget.to_string(), text);
        }
        assert_eq!(["0", "0%"].map(str::parse), [Ok(Budget::Off), Ok(Budget::Off)]);
        for text in ["", "1", "-1%", "NaN%", "inf%", "1 %%", "%"] {
            assert!(text.parse::<Budget>().is_err(), "{text}");
        }
    }
}
