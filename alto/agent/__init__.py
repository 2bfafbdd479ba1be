"""The hands on a host: takes assignments, drives drivers, keeps manifests, reports what it sees."""
