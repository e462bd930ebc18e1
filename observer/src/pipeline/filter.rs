//! Which Go processes are targets, by who they belong to.

use regex::Regex;

use crate::model::ledger::Workload;

/// Processes to observe; all of them unless told otherwise.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

/// What an identity label of a process must be like.
#[derive(Debug, Clone)]
pub struct Pattern {
    field: Field,
    regex: Regex,
}

/// An identity label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Namespace,
    Pod,
    Container,
    Unit,
    Process,
}

impl Field {
    const ALL: [(&str, Self); 5] = [
        ("namespace", Self::Namespace),
        ("pod", Self::Pod),
        ("container", Self::Container),
        ("unit", Self::Unit),
        ("process", Self::Process),
    ];

    /// Its value; one that is absent is empty, as Prometheus has it.
    fn of(self, workload: &Workload) -> &str {
        let owner = &workload.owner;
        match self {
            Self::Namespace => owner.namespace.as_deref(),
            Self::Pod => owner.pod.as_deref(),
            Self::Container => owner.container.as_deref(),
            Self::Unit => owner.unit.as_deref(),
            Self::Process => Some(&*workload.process),
        }
        .unwrap_or_default()
    }

    /// Whether a container's name must be known to know it.
    const fn needs_name(self) -> bool {
        matches!(self, Self::Namespace | Self::Pod | Self::Container)
    }
}

impl Pattern {
    /// Reads `FIELD=REGEX`; the expression must match the whole value, as in Prometheus.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, expression) = text.split_once('=').ok_or("write it as FIELD=REGEX")?;
        let known = Field::ALL.into_iter().find(|(known, _)| *known == name);
        let (_, field) = known.ok_or_else(|| {
            format!("`{name}` is none of {}", Field::ALL.map(|(known, _)| known).join(", "))
        })?;
        // Checked by itself first: `a)|(b` is no expression, but would become one.
        Regex::new(expression)
            .and_then(|_| Regex::new(&format!("^(?s:{expression})$")))
            .map(|regex| Self { field, regex })
            .map_err(|error| error.to_string().lines().last().unwrap_or_default().to_owned())
    }

    fn matches(&self, workload: &Workload) -> bool {
        self.regex.is_match(self.field.of(workload))
    }
}

impl Filter {
    /// A process is observed if no pattern of `exclude` matches, and of `include` one for each field that is
    /// named there.
    #[must_use]
    pub const fn new(include: Vec<Pattern>, exclude: Vec<Pattern>) -> Self {
        Self { include, exclude }
    }

    /// Whether a process is to be observed; `None` while that depends on a name that is awaited.
    #[must_use]
    pub fn wants(&self, workload: &Workload, named: bool) -> Option<bool> {
        let mut unsure = false;
        let mut knows = |field: Field| {
            let knows = named || !field.needs_name();
            unsure |= !knows;
            knows
        };
        if self.exclude.iter().any(|pattern| knows(pattern.field) && pattern.matches(workload)) {
            return Some(false);
        }
        for (_, field) in Field::ALL {
            let mut patterns = self.include.iter().filter(|pattern| pattern.field == field).peekable();
            let asked = patterns.peek().is_some() && knows(field);
            if asked && !patterns.any(|pattern| pattern.matches(workload)) {
                return Some(false);
            }
        }
        (!unsure).then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Owner;

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let patterns = |texts: &[&str]| texts.iter().map(|text| Pattern::parse(text).unwrap()).collect();
        Filter::new(patterns(include), patterns(exclude))
    }

    fn workload(namespace: Option<&str>, process: &str) -> Workload {
        let owner = Owner { namespace: namespace.map(Into::into), ..Owner::default() };
        Workload { owner, process: process.into() }
    }

    /// Fields are joined by and, patterns of one field by or; excluding is stronger; an absent label is empty.
    #[test]
    fn include_and_exclude() {
        let all = filter(&[], &[]);
        assert_eq!(all.wants(&workload(None, "x"), false), Some(true));
        let some = filter(&["namespace=shop|web", "namespace=dev-.*", "process=api"], &["namespace=dev-old"]);
        for (namespace, process, wanted) in [
            (Some("shop"), "api", true),
            (Some("dev-1"), "api", true),
            (Some("dev-old"), "api", false),
            (Some("shop"), "apis", false),
            (Some("workshop"), "api", false),
            (None, "api", false),
        ] {
            assert_eq!(
                some.wants(&workload(namespace, process), true),
                Some(wanted),
                "{namespace:?} {process}"
            );
        }
        let bare = filter(&["namespace="], &[]);
        assert_eq!(bare.wants(&workload(None, "x"), true), Some(true));
        assert_eq!(bare.wants(&workload(Some("shop"), "x"), true), Some(false));
    }

    /// While a name is awaited nothing is decided by it, but other fields already decide.
    #[test]
    fn awaits_names() {
        let some = filter(&["namespace=shop"], &["process=noisy"]);
        assert_eq!(some.wants(&workload(None, "api"), false), None);
        assert_eq!(some.wants(&workload(None, "noisy"), false), Some(false));
        let not = filter(&[], &["namespace=kube-.*"]);
        assert_eq!(not.wants(&workload(None, "api"), false), None);
        assert_eq!(filter(&["process=api"], &[]).wants(&workload(None, "api"), false), Some(true));
    }

    /// What can't be read is refused with what is wrong, also an expression that would only be one when
    /// anchored.
    #[test]
    fn refusals() {
        for (text, part) in [
            ("shop", "FIELD=REGEX"),
            ("name=x", "process"),
            ("unit=(", "unclosed"),
            ("unit=a)|(b", "unopened"),
        ] {
            let error = Pattern::parse(text).unwrap_err();
            assert!(error.contains(part) && error.lines().count() == 1, "{text}: {error}");
        }
    }
}
