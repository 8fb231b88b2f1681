"""The same night as a plain script, with the same libraries and nothing else: what Ratchet's own cost is measured against.

It pulls what is new, runs the suite on it, builds the features, trains, evaluates the new and the old model on the hold-out,
and logs and registers the new one. It pins nothing, keeps no evidence, proves nothing and cannot be run twice safely. It is
written as somebody would who cares about speed: one process, Arrow instead of pandas where the library takes it, no
requirements inference, no artifact that nobody reads. With ``--without-checks`` it leaves out validation and MLflow.
"""

from __future__ import annotations

import argparse
import json
import os
from datetime import date, timedelta
from pathlib import Path


def main() -> None:
    """Run the night."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cutoff", type=date.fromisoformat, required=True)
    parser.add_argument(
        "--folder", type=Path, required=True, help="where the script keeps what it pulled, and its last model"
    )
    parser.add_argument("--home", type=Path, required=True, help="the pipeline's home: the same suite and SQL")
    parser.add_argument(
        "--spec", type=json.loads, required=True, help="window and training figures of the spec, as JSON"
    )
    parser.add_argument("--without-checks", action="store_true")
    args = parser.parse_args()
    spec, cutoff = args.spec, args.cutoff
    first = cutoff - timedelta(days=spec["days"] - 1)
    holdout = cutoff - timedelta(days=spec["holdout_days"] - 1)
    stop = holdout - timedelta(days=spec["stop_days"])

    new = pull(args.folder, first - timedelta(days=1), cutoff)
    if not args.without_checks:
        validate([path for path in new if "/flights/" in path], args.home / "suites" / "flights.json")
    frame = features(args.folder, (args.home / "features" / "flight_delay.sql").read_text(), first, cutoff, spec)
    booster, old, results = fit_and_evaluate(frame, stop, holdout, spec, args.folder / "champion.ubj")
    if not args.without_checks:
        log_and_register(booster, spec, results, cutoff)
    booster.save_model(args.folder / "champion.ubj")
    print(json.dumps({**results, "old": old is not None}))


def pull(folder: Path, first: date, last: date) -> list[str]:
    """Bring what is not here yet."""
    import boto3

    s3 = boto3.client("s3", endpoint_url=os.environ["RATCHET_S3_ENDPOINT"])
    new = []
    for table in ("flights", "weather"):
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket="lake", Prefix=f"{table}/"):
            for item in page.get("Contents", ()):
                day = date.fromisoformat(item["Key"].split("dt=")[1][:10])
                path = folder / item["Key"]
                if first <= day <= last and not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    s3.download_file("lake", item["Key"], str(path))
                    new.append(str(path))
    return new


def validate(paths: list[str], suite_file: Path) -> None:
    """Run the suite on each new file."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    import pandas as pd

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    suite = gx.ExpectationSuite(**json.loads(suite_file.read_text()))
    batch = (
        context.data_sources.add_pandas("pandas")
        .add_dataframe_asset("flights")
        .add_batch_definition_whole_dataframe("day")
    )
    for path in paths:
        batch.get_batch({"dataframe": pd.read_parquet(path)}).validate(suite)


def features(folder: Path, sql: str, first: date, last: date, spec: dict):
    """Run the features query and put the label beside it."""
    import duckdb

    con = duckdb.connect()
    for table, since in (("flights", first), ("weather", first - timedelta(days=1))):
        files = [
            str(p)
            for p in sorted((folder / table).rglob("*.parquet"))
            if since <= date.fromisoformat(p.parent.name[3:]) <= last
        ]
        con.execute(
            f"CREATE TABLE {table} AS SELECT *, file_row_number FROM read_parquet({files}, filename=true, file_row_number=true, hive_partitioning=true)"
        )
    con.execute(
        "CREATE TABLE labelled AS SELECT *, row_number() OVER (ORDER BY filename, file_row_number) AS row_id FROM flights"
    )
    hidden = ", ".join(spec["hidden"])
    con.execute(f"CREATE VIEW rows AS SELECT * EXCLUDE ({hidden}, filename, file_row_number) FROM labelled")
    return con.execute(
        f"SELECT f.*, l.dt, ({spec['target']}) AS target FROM ({sql.rstrip().rstrip(';')}) f JOIN labelled l USING (row_id) "
        f"WHERE ({spec['target']}) IS NOT NULL ORDER BY row_id"
    ).to_arrow_table()


def fit_and_evaluate(frame, stop: date, holdout: date, spec: dict, old_file: Path):
    """Train, and score both models on the hold-out."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import xgboost as xgb
    from sklearn.metrics import log_loss, roc_auc_score

    names = [n for n in frame.column_names if n not in {"row_id", "dt", "target"}]
    texts = {
        n: sorted(v for v in pc.unique(frame[n]).to_pylist() if v is not None)
        for n in names
        if pa.types.is_string(frame[n].type)
    }
    columns = [pc.index_in(frame[n], value_set=pa.array(texts[n])) if n in texts else frame[n] for n in names]
    x = np.column_stack([c.cast(pa.float32()).to_numpy() for c in columns])
    y = frame["target"].cast(pa.int8()).to_numpy()
    days = frame["dt"].cast(pa.date32()).to_numpy()
    described = {
        "feature_names": names,
        "feature_types": ["c" if n in texts else "q" for n in names],
        "enable_categorical": True,
    }
    fit, watch, held = (
        days < np.datetime64(stop),
        (days >= np.datetime64(stop)) & (days < np.datetime64(holdout)),
        days >= np.datetime64(holdout),
    )
    train = xgb.QuantileDMatrix(x[fit], y[fit], **described)
    booster = xgb.train(
        {
            **spec["params"],
            "objective": "binary:logistic",
            "eval_metric": "logloss",
            "nthread": spec["threads"],
            "seed": 0,
        },
        train,
        spec["rounds"],
        evals=[(xgb.QuantileDMatrix(x[watch], y[watch], ref=train, **described), "stop")],
        early_stopping_rounds=spec["early_stopping_rounds"],
        verbose_eval=False,
    )
    booster = booster[: booster.best_iteration + 1]
    old = xgb.Booster(model_file=old_file) if old_file.exists() else None
    results = {}
    for name, model in (("challenger", booster), ("champion", old)):
        if model is not None:
            p = model.predict(xgb.DMatrix(x[held], **described))
            results[name] = {"auc": float(roc_auc_score(y[held], p)), "log_loss": float(log_loss(y[held], p))}
    return booster, old, results


def log_and_register(booster, spec: dict, results: dict, cutoff: date) -> None:
    """Log and register with MLflow's own XGBoost flavour."""
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    import mlflow
    import mlflow.xgboost
    import xgboost

    mlflow.set_experiment("bare")
    with mlflow.start_run(run_name=f"bare {cutoff}"):
        mlflow.log_params(spec["params"])
        mlflow.log_metrics(
            {f"{model}.{name}": value for model, metrics in results.items() for name, value in metrics.items()}
        )
        mlflow.xgboost.log_model(
            booster,
            name="model",
            model_format="ubj",
            registered_model_name="bare",
            pip_requirements=[f"xgboost=={xgboost.__version__}"],
        )


if __name__ == "__main__":
    main()
