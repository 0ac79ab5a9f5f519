"""Landing and lake in S3 (moto's server): the same pipeline, with staged files PUT, and loaded by COPY or a pipe."""

from __future__ import annotations

import boto3
import pytest
from moto.server import ThreadedMotoServer

from warehouse.sample import generate_shop

pytestmark = pytest.mark.integration

BUCKET = "shop-bucket"


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


def test_a_shop_that_lands_in_s3_is_loaded_through_an_s3_lake_by_copy_and_by_snowpipe(endpoint, new_home, tmp_path):
    landing = tmp_path / "shop"
    truth = generate_shop(landing, customers=80, products=40, days=20, orders=300, seed=9)
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="eu-west-1",
        aws_access_key_id="test-key",
        aws_secret_access_key="test-secret",
    )
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    files = [path for path in sorted(landing.rglob("*")) if path.is_file()]
    late = next(path for path in reversed(files) if path.parent.name == "orders")

    def land(path):
        client.upload_file(str(path), BUCKET, f"landing/{path.relative_to(landing)}")

    for path in files:
        if path != late:
            land(path)
    home = new_home()
    settings = {
        "CUSTOMER_ANALYTICS_AWS_ENDPOINT_URL": endpoint,
        "CUSTOMER_ANALYTICS_AWS_ACCESS_KEY_ID": "test-key",
        "CUSTOMER_ANALYTICS_AWS_SECRET_ACCESS_KEY": "test-secret",
        "CUSTOMER_ANALYTICS_LAKE_URL": f"s3://{BUCKET}/lake",
    }
    home.command("run", "--landing", f"s3://{BUCKET}/landing", env=settings)
    before = home.query("select count(*) as n from raw.order_lines")[0]["n"]
    assert 0 < before < truth.order_lines
    # The last file comes another way: through a pipe over what is PUT.
    land(late)
    settings["CUSTOMER_ANALYTICS_LOAD_METHOD"] = "snowpipe"
    home.command("run", "--landing", f"s3://{BUCKET}/landing", env=settings)
    assert home.query("select count(*) as n from raw.order_lines") == [{"n": truth.order_lines}]
    assert home.query("select count(*) as n from marts.fact_orders") == [{"n": truth.lines}]
    assert home.query("select count(*) as n from quality.reconciliations where not is_passed") == [{"n": 0}]
    piped = "table(information_schema.copy_history(table_name => 'RAW.ORDER_LINES', start_time => '2026-01-01'))"
    assert home.query(f"select count(*) as n from {piped} where pipe_name = 'ORDER_LINES_PIPE'") == [{"n": 1}]
    staged = client.list_objects_v2(Bucket=BUCKET, Prefix="lake/staged/")["KeyCount"]
    assert staged == home.query("select count(*) as n from ops.files where state = 'loaded'")[0]["n"]
    put = [path for path in (home.path / "warehouse" / "stages").rglob("*.parquet") if path.parts[-4] == "staged"]
    assert not (home.path / "lake").exists()
    assert len(put) == staged, "the warehouse can't read the bucket, so every staged file must have been PUT"
    again = home.command("run", "--landing", f"s3://{BUCKET}/landing", env=settings)
    assert "none new" in again
