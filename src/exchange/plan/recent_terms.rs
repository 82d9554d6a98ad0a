//! The terms that the last requests of one client had.
//!
//! Most requests have terms that another one had before, and their two digests need not be made
//! again. It decides which are kept; it refuses to know what terms are made of. A look-up locks
//! one shard for reading at most, and allocates nothing.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use foldhash::fast;

use crate::authn::Endpoints;
use crate::exchange::grant::Grant;
use crate::exchange::terms::Terms;
use crate::limits;

/// What of the terms depends on the request.
#[derive(Clone, Copy)]
pub(super) struct Particulars<'a> {
    pub(super) grant: Grant,
    pub(super) issuer: Option<&'a Arc<str>>,
    pub(super) tenant: Option<&'a str>,
}

/// At most [`limits::MAX_REMEMBERED_TERMS`], by the hash of their [`Particulars`]: of two that
/// have the same one, which only [`RecentTerms::slots`] can tell, the last stays.
#[derive(Default)]
pub(super) struct RecentTerms {
    /// Those that were made last: where all callers have the same, there is nothing to look up.
    newest: ArcSwapOption<Remembered>,
    /// Made to stand a choice of what is hashed, so that no caller can choose whose terms it
    /// pushes out; what it gives may be hashed by anything.
    slots: RandomState,
    by_slot: DashMap<u64, Arc<Remembered>, fast::RandomState>,
}

struct Remembered {
    endpoints: Arc<Endpoints>,
    terms: Arc<Terms>,
}

impl RecentTerms {
    /// The terms of a request by way of `endpoints`, which `make` makes if none are remembered.
    pub(super) fn find_or_make<E>(
        &self,
        endpoints: Arc<Endpoints>,
        particulars: Particulars<'_>,
        make: impl FnOnce(&Endpoints) -> Result<Terms, E>,
    ) -> Result<Arc<Terms>, E> {
        if let Some(newest) = &*self.newest.load()
            && newest.fits(&endpoints, particulars)
        {
            return Ok(Arc::clone(&newest.terms));
        }
        let slot = self.slots.hash_one(particulars.in_order());
        let found = self.by_slot.get(&slot).filter(|one| one.fits(&endpoints, particulars));
        if let Some(remembered) = found {
            return Ok(Arc::clone(&remembered.terms));
        }
        let terms = Arc::new(make(&endpoints)?);
        self.add(slot, Remembered { endpoints, terms: Arc::clone(&terms) });
        Ok(terms)
    }

    /// Who comes when all places are taken takes that of anyone: whom it was taken from has its
    /// terms made again.
    fn add(&self, slot: u64, new: Remembered) {
        let new = Arc::new(new);
        self.newest.store(Some(Arc::clone(&new)));
        while self.by_slot.len() >= limits::MAX_REMEMBERED_TERMS {
            let Some(old) = self.by_slot.iter().next().map(|one| *one.key()) else { break };
            self.by_slot.remove(&old);
        }
        self.by_slot.insert(slot, new);
    }
}

impl Particulars<'_> {
    fn in_order(&self) -> (&'static str, Option<&str>, Option<&str>) {
        (self.grant.name(), self.issuer.map(AsRef::as_ref), self.tenant)
    }
}

impl Remembered {
    /// Whether a request by way of `endpoints` has these terms: all that is not fixed by the
    /// routes file is compared.
    fn fits(&self, endpoints: &Arc<Endpoints>, particulars: Particulars<'_>) -> bool {
        (Arc::ptr_eq(&self.endpoints, endpoints) || self.endpoints == *endpoints)
            && self.terms.grant == particulars.grant
            && self.terms.issuer.as_ref() == particulars.issuer
            && self.terms.tenant.as_deref() == particulars.tenant
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use super::*;
    use crate::exchange::terms::tests::terms;

    #[test]
    fn terms_are_used_again_only_for_the_same_issuer_tenant_grant_and_endpoints() {
        let terms = terms("c", &["s"]);
        let endpoints = Arc::new(Endpoints {
            token: Some(terms.token_endpoint.clone()),
            authorization: terms.authorization_endpoint.clone(),
        });
        let last = Remembered { endpoints: Arc::clone(&endpoints), terms: Arc::new(terms) };
        let issuer = Arc::from("https://login.example/t1/v2.0");
        let grant = Grant::EntraOnBehalfOf;
        let own = Particulars { grant, issuer: Some(&issuer), tenant: Some("t1") };
        assert!(last.fits(&endpoints, own));
        assert!(last.fits(&Arc::new(Endpoints::clone(&endpoints)), own));

        let other = Arc::from("https://sts.example/t1/");
        assert!(!last.fits(&endpoints, Particulars { tenant: Some("t2"), ..own }));
        assert!(!last.fits(&endpoints, Particulars { issuer: Some(&other), ..own }));
        assert!(!last.fits(&endpoints, Particulars { issuer: None, ..own }));
        let grant = Grant::ClientCredentials;
        assert!(!last.fits(&endpoints, Particulars { grant, ..own }));
        assert!(!last.fits(&Arc::default(), own));
    }

    /// Callers of one issuer for each number, and how often their terms were made.
    #[derive(Default)]
    struct Callers {
        recent: RecentTerms,
        made: Cell<usize>,
    }

    impl Callers {
        fn ask(&self, endpoints: &Arc<Endpoints>, number: usize) -> Arc<Terms> {
            let issuer = Arc::from(format!("https://login.example/{number}"));
            let particulars = Particulars {
                grant: Grant::EntraOnBehalfOf,
                issuer: Some(&issuer),
                tenant: Some("t1"),
            };
            let make = |_: &Endpoints| {
                self.made.set(self.made.get() + 1);
                let mut terms = terms("c", &["s"]);
                terms.issuer = Some(Arc::clone(&issuer));
                Ok::<_, Infallible>(terms)
            };
            let Ok(terms) = self.recent.find_or_make(Arc::clone(endpoints), particulars, make);
            assert_eq!(terms.issuer.as_ref(), Some(&issuer));
            terms
        }
    }

    #[test]
    fn who_comes_in_turns_keeps_its_terms_as_long_as_there_is_room() {
        let (callers, endpoints) = (Callers::default(), Arc::default());
        for _ in 0..3 {
            for number in 0..limits::MAX_REMEMBERED_TERMS {
                callers.ask(&endpoints, number);
            }
        }
        assert_eq!(callers.made.get(), limits::MAX_REMEMBERED_TERMS);
        for number in 0..100 {
            callers.ask(&endpoints, limits::MAX_REMEMBERED_TERMS + number);
        }
        assert_eq!(callers.made.get(), limits::MAX_REMEMBERED_TERMS + 100);
        assert_eq!(callers.recent.by_slot.len(), limits::MAX_REMEMBERED_TERMS);
    }

    #[test]
    fn endpoints_that_change_cost_the_old_terms() {
        let callers = Callers::default();
        let (old, new) = (Arc::default(), Endpoints { token: Some("e".into()), ..<_>::default() });
        let new = Arc::new(new);
        for endpoints in [&old, &new, &new] {
            callers.ask(endpoints, 1);
        }
        assert_eq!((callers.made.get(), callers.recent.by_slot.len()), (2, 1));
    }
}
