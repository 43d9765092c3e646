//! Three nodes under a real Patroni with a real etcd.
