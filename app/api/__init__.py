"""Routes beside the pages: what the browser fetches by itself. Nothing here knows Streamlit."""
