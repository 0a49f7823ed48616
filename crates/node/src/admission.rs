//! How many connections there may be, of all clients and of each address.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard};

use milena_config::NodeConfig;

/// Limits as they are configured now; all of them may change while the node runs.
#[derive(Debug)]
pub struct Limits {
    /// `max.connections`; `None` for the listener between brokers where there are others, which it never holds up.
    pub total: Option<usize>,
    /// `max.connections.per.ip` or the number that `max.connections.per.ip.overrides` has for the address.
    pub of_address: usize,
}

impl Limits {
    /// For a connection from `address`.
    pub fn of(config: &NodeConfig, address: IpAddr, is_protected: bool) -> Limits {
        let total = config.max_connections().max(0) as usize;
        let overrides = config.text("max.connections.per.ip.overrides");
        let own = overrides.unwrap_or("").split(',').find_map(|entry| {
            let (host, count) = entry.rsplit_once(':')?;
            names(host, address).then(|| count.trim().parse().ok())?
        });
        let of_address = own.unwrap_or(config.max_connections_per_ip().max(0) as usize);
        Limits {
            total: (!is_protected).then_some(total),
            of_address,
        }
    }
}

/// Whether a host, by name or number, is this address.
fn names(host: &str, address: IpAddr) -> bool {
    let host = host.trim().trim_matches(['[', ']']);
    match host.parse::<IpAddr>() {
        Ok(ip) => ip == address,
        Err(_) => (host, 0)
            .to_socket_addrs()
            .is_ok_and(|mut found| found.any(|one| one.ip() == address)),
    }
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// The address has as many as it may have: this one is closed.
    Address,
    /// There are as many as there may be: this one waits until another ends.
    Total,
}

#[derive(Default)]
struct Counts {
    total: usize,
    of_address: HashMap<IpAddr, usize>,
}

/// Counts connections.
#[derive(Clone, Default)]
pub struct Admission(Arc<Mutex<Counts>>);

impl Admission {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().expect("no panic while held")
    }

    /// Counts a connection until its ticket is dropped.
    pub fn admit(&self, address: IpAddr, limits: &Limits) -> Result<Ticket, NotAdmitted> {
        let mut counts = self.counts();
        let of_address = counts.of_address.get(&address).copied().unwrap_or(0);
        if of_address >= limits.of_address {
            return Err(NotAdmitted::Address);
        }
        if limits.total.is_some_and(|total| counts.total >= total) {
            return Err(NotAdmitted::Total);
        }
        counts.total += 1;
        counts.of_address.insert(address, of_address + 1);
        Ok(Ticket {
            admission: self.clone(),
            address,
        })
    }
}

/// A connection's place.
pub struct Ticket {
    admission: Admission,
    address: IpAddr,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut counts = self.admission.counts();
        counts.total -= 1;
        if let Some(count) = counts.of_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.of_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let admission = Admission::default();
        let [one, other] = [[127, 0, 0, 1], [127, 0, 0, 2]].map(IpAddr::from);
        let limits = |total| Limits {
            total,
            of_address: 2,
        };
        let first = admission.admit(one, &limits(Some(3)));
        let second = admission.admit(one, &limits(Some(3)));
        let refused = |address, total| admission.admit(address, &limits(total)).err();
        assert_eq!(refused(one, Some(3)), Some(NotAdmitted::Address));
        let third = admission.admit(other, &limits(Some(3)));
        assert_eq!(refused(other, Some(3)), Some(NotAdmitted::Total));
        assert_eq!(refused(other, None), None, "a protected listener");
        drop(first);
        assert_eq!(refused(one, Some(3)), None);
        drop((second, third));
        assert_eq!(admission.counts().total, 0);
        assert!(admission.counts().of_address.is_empty());
    }

    #[test]
    fn a_host_is_an_address_by_number_or_name() {
        let here = IpAddr::from([127, 0, 0, 1]);
        assert!(names("127.0.0.1", here));
        assert!(names(" localhost", here));
        assert!(!names("127.0.0.2", here));
        assert!(names("[::1]", "::1".parse().unwrap()));
    }
}
