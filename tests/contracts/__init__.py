"""What every implementation of an interface must do, and the runs against fakes and real things."""
