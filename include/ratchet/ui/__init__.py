"""What the plugin serves inside Airflow: an overview of all pipelines, their nights, and the pages that nights leave behind."""
