"""The SiliconFlow service: its client, its objects and its errors. This package does not use Airflow."""
