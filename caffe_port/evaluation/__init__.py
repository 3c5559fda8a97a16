"""From a network and a list of images to label maps, one confusion matrix and a report."""
