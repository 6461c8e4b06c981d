//! What is tried when a job's browser breaks: the gentlest step that can mend it, and one harder each time.

use std::collections::BTreeMap;

/// A step of the ladder, gentlest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rung {
    /// The page is loaded again.
    Reload,
    /// Another tab in the same session.
    NewTab,
    /// Another session of the same driver.
    NewSession,
    /// Another driver with another browser.
    NewBrowser,
    /// A browser of another name.
    OtherBrowser,
}

impl Rung {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Reload, Self::NewTab, Self::NewSession, Self::NewBrowser, Self::OtherBrowser];

    /// The words for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::NewTab => "new tab",
            Self::NewSession => "new session",
            Self::NewBrowser => "new browser",
            Self::OtherBrowser => "other browser",
        }
    }

    fn harder(self) -> Self {
        match self {
            Self::Reload => Self::NewTab,
            Self::NewTab => Self::NewSession,
            Self::NewSession => Self::NewBrowser,
            Self::NewBrowser | Self::OtherBrowser => Self::OtherBrowser,
        }
    }
}

/// What broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    /// The GPU device is lost; the page lives.
    Device,
    /// The page or its Worker is unusable or gone; the browser lives.
    Page,
    /// The browser or its driver is gone.
    Browser,
    /// A browser did not even start; the job has not run there.
    Start,
    /// The pool itself ended the browser, for reasons that are not this job's.
    Ours,
}

impl Break {
    fn gentlest(self) -> Rung {
        match self {
            Self::Device => Rung::Reload,
            Self::Page | Self::Ours => Rung::NewTab,
            Self::Browser | Self::Start => Rung::NewBrowser,
        }
    }
}

/// How far one job is up the ladder, in each browser.
#[derive(Debug, Default)]
pub(crate) struct Ladder {
    last: BTreeMap<String, Rung>,
}

impl Ladder {
    /// The next step in this browser.
    pub(crate) fn climb(&mut self, browser: &str, broken: Break) -> Rung {
        let gentlest = broken.gentlest();
        let rung = match self.last.get(browser) {
            // What the pool did to itself needs nothing harder the second time.
            _ if broken == Break::Ours => return gentlest,
            Some(last) => gentlest.max(last.harder()),
            None => gentlest,
        };
        self.last.insert(browser.to_owned(), rung);
        rung
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(breaks: &[Break], expected: &[Rung]) {
        let mut ladder = Ladder::default();
        let climbed: Vec<Rung> = breaks.iter().map(|broken| ladder.climb("chromium", *broken)).collect();
        assert_eq!(climbed, expected);
    }

    #[test]
    fn each_step_is_harder_than_the_last() {
        check(&[Break::Device; 4], &[Rung::Reload, Rung::NewTab, Rung::NewSession, Rung::NewBrowser]);
        check(&[Break::Page, Break::Device], &[Rung::NewTab, Rung::NewSession]);
        check(&[Break::Browser; 3], &[Rung::NewBrowser, Rung::OtherBrowser, Rung::OtherBrowser]);
        check(&[Break::Ours; 3], &[Rung::NewTab; 3]);
    }

    #[test]
    fn another_browser_begins_at_the_bottom() {
        let mut ladder = Ladder::default();
        ladder.climb("chromium", Break::Browser);
        assert_eq!(ladder.climb("firefox", Break::Device), Rung::Reload);
    }

    proptest! {
        #[test]
        fn nobody_climbs_down(breaks in prop::collection::vec(0_usize..4, 1..10)) {
            let kinds = [Break::Device, Break::Page, Break::Browser, Break::Start];
            let mut ladder = Ladder::default();
            let climbed: Vec<Rung> = breaks.iter().map(|kind| ladder.climb("a", kinds[*kind])).collect();
            prop_assert!(climbed.windows(2).all(|pair| pair[0] < pair[1] || pair[1] == Rung::OtherBrowser));
        }
    }
}
