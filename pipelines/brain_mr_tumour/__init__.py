"""Where on these T1c, T1, T2 and FLAIR images is glioma, and of which parts is it made?"""
