"""Inference jobs: requests, batches, waiting, answers. Knows nothing of Airflow."""
