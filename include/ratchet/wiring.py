"""Builds the adapters from settings: the only constructor, and cheap, because adapters import their SDK on first use."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ratchet.adapters.alerts import Webhook
from ratchet.adapters.dask_xgb import EngineTrainer
from ratchet.adapters.duck import DuckEngine
from ratchet.adapters.gx import GxValidator
from ratchet.adapters.ledger import ObjectLedger
from ratchet.adapters.mlflow import MlflowRegistry
from ratchet.adapters.optuna_tuner import OptunaTuner
from ratchet.adapters.report import HtmlReporter
from ratchet.adapters.s3 import S3Store
from ratchet.adapters.sandbox import FolderRegistry, FolderStore, KeptFits
from ratchet.adapters.signing import signer, trusted_keys
from ratchet.domain import layout
from ratchet.errors import SettingsInvalid
from ratchet.settings import Settings, settings
from ratchet.steps.context import Nowhere, Services

if TYPE_CHECKING:
    from pathlib import Path

    from ratchet.ports import ObjectStore
    from ratchet.spec import Pipeline

_QUERIES = 0.375  # of a night's memory, for queries; the rest is for libraries, and for what is made of their results
_MATRICES = 0.5  # of it, for a fit; queries are over by then


def services(given: Settings | None = None) -> Services:
    """Build everything that the steps need.

    Raises:
        SettingsInvalid: the environment does not say where the services are.
    """
    found = given or settings()
    if not found.tracking_uri:
        raise SettingsInvalid("MLFLOW_TRACKING_URI", "", "the address of an MLflow server; `ratchet up` starts one")
    store, queries = object_store(found), f"{found.memory_gib * _QUERIES:.3f}GiB"
    return Services(
        store=store,
        engine=DuckEngine(found.cache, memory_limit=queries),
        validator=GxValidator(spill=found.cache / "spill", memory_limit=queries),
        trainer=EngineTrainer(found.dask, cache=found.cache, memory_gib=found.memory_gib * _MATRICES),
        registry=MlflowRegistry(found.tracking_uri, found.cache),
        ledger=ledger(store, found),
        reporter=HtmlReporter(),
        cache=found.cache,
        alerter=Webhook(found.alert_url.get_secret_value() if found.alert_url else None),
        tuner=OptunaTuner(),
    )


def object_store(given: Settings | None = None) -> S3Store:
    """Build the object store alone, for what needs no more."""
    found = given or settings()
    found.cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    return S3Store(found.s3_endpoint, found.bucket, found.cache, cap=found.cache_cap, md5_etags=found.md5_etags)


def sandboxed(real: Services, pipeline: Pipeline, folder: Path, shared: Path) -> Services:
    """Build services that read the pipeline's source as the real ones do, write nowhere but here, and alert nobody.

    Args:
        real: the real services; also of what people have given back from quarantine.
        pipeline: what is going to run.
        folder: where its ledger, versions and records lie.
        shared: where lies what any sandbox may find done: validations and fits, known by their content.
    """
    source = pipeline.spec.source
    read = [source.uri, *(table.uri for table in source.tables.values()), layout.releases(pipeline.name)]
    store = FolderStore(folder, shared, real.store, read)
    return dataclasses.replace(
        real,
        store=store,
        trainer=KeptFits(real.trainer, shared / "fits"),
        registry=FolderRegistry(store),
        ledger=ObjectLedger(store),
        alerter=Nowhere(),
    )


def ledger(store: ObjectStore, given: Settings) -> ObjectLedger:
    """Build the ledger with the keys that sign and verify it.

    Raises:
        SettingsInvalid: a key cannot be used.
    """
    secret = given.signing_key_password
    signs = signer(given.signing_key, secret.get_secret_value() if secret else None) if given.signing_key else None
    return ObjectLedger(store, signs, trusted_keys(given.trusted_keys) if given.trusted_keys else ())
